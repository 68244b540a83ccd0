"""What import-linter can't see, and that it sees what it should: each sin is planted and must be caught."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "strongroom"
MODULES = sorted(PACKAGE.rglob("*.py"))
BY_STRING = {"import_module", "__import__", "exec", "eval"}
HEAVY = ("torch", "transformers", "tokenizers", "boto3", "ray", "starlette")


def _sins_of(path: Path, root: Path) -> list[str]:
    module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
    package = module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in BY_STRING and path.relative_to(root).as_posix() != "wiring/table.py":
                found.append(f"{module}: imports by string ({name})")
        if isinstance(node, ast.ImportFrom) and node.module == package and path.name != "__init__.py":
            here = {one.stem for one in path.parent.iterdir()}
            own = [alias.name for alias in node.names if alias.name not in here and package != "strongroom"]
            found += [f"{module}: imports {name} from its own package's __init__" for name in own]
    return found


def test_imports_by_string_and_own_init() -> None:
    assert [sin for path in MODULES for sin in _sins_of(path, PACKAGE)] == []


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_the_front_door_starts_without_torch() -> None:
    code = f"import sys, strongroom.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_all_lists_what_is_there() -> None:
    for path in MODULES:
        tree = ast.parse(path.read_text())
        names = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "__all__" for one in node.targets)
        ]
        defined = {getattr(node, "name", "") for node in tree.body} | {
            alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        lazy = path == PACKAGE / "__init__.py"
        assert lazy or all(set(listed) <= defined for listed in names), path


def _plant(house: Path, module: str, text: str) -> None:
    target = house / "src" / "strongroom" / module
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "src" / "strongroom", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(house: Path) -> str:
    code = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports; "
    code += "sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=house, capture_output=True, text=True, check=False, timeout=120
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


SINS = [
    ("custody/sin.py", "import torch\n", "torch and friends"),
    ("cli/sin.py", "def f() -> None:\n    import torch\n", "torch and friends"),
    ("custody/sin.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n", "torch and friends"),
    ("serving/__init__.py", "import strongroom.custody\n", "Storeys"),
    ("core/sin.py", "import strongroom.ledger.events\n", "Storeys"),
    ("ledger/sin.py", "import strongroom.access.keys\n", "Storeys"),
    ("access/sin.py", "import strongroom.custody\n", "Storeys"),
    ("custody/sin.py", "import strongroom.backends.sqlite_records\n", "opened by URL"),
    ("wiring/sin.py", "import strongroom.backends.sqlite_records\n", "opened by URL"),
    ("ledger/sin.py", "import sqlite3\n", "Servers and SDKs"),
    ("custody/sin.py", "import starlette\n", "Web frameworks"),
    ("utils/__init__.py", "", "Storeys"),
]


@pytest.mark.parametrize(("module", "text", "contract"), SINS, ids=[f"{one[0]}-{i}" for i, one in enumerate(SINS)])
def test_a_planted_sin_is_caught(house: Path, module: str, text: str, contract: str) -> None:
    _plant(house, module, text)
    said = _lint(house)
    assert contract in said
    assert "BROKEN" in said


def test_a_cycle_inside_a_room_is_caught(house: Path) -> None:
    _plant(house, "custody/inner/__init__.py", '"""Inner."""\n')
    _plant(house, "custody/inner/a.py", "import strongroom.custody.inner.b\n")
    _plant(house, "custody/inner/b.py", "import strongroom.custody.inner.a\n")
    assert "No cycles between siblings, at any depth BROKEN" in _lint(house)


def test_the_clean_house_raises_no_alarm(house: Path) -> None:
    assert not _lint(house)


def test_string_import_is_caught(house: Path) -> None:
    _plant(house, "custody/sin.py", "import importlib as i\ni.import_module('torch')\n")
    root = house / "src" / "strongroom"
    assert _sins_of(root / "custody" / "sin.py", root)
