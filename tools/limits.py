"""The ratchet: measure the tail of the source and refuse growth beyond ``limits.toml``.

python tools/limits.py            compare; exit 1 if anything is over
python tools/limits.py --tighten  rewrite limits.toml with today's smaller figures, never with larger ones
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "strongroom"
LIMITS = ROOT / "limits.toml"
_IGNORE = re.compile(r"#\s*(noqa|type:\s*ignore|pyright:\s*ignore)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(arguments: list[str]) -> int:
    """Compare what is with what may be."""
    measured = measure()
    limits: dict[str, float] = tomllib.loads(LIMITS.read_text())
    over = {name: (measured[name], limit) for name, limit in limits.items() if measured[name] > limit}
    for name, (found, limit) in over.items():
        print(f"{name}: {found} is over {limit}")
    if "--tighten" in arguments and not over:
        tightened = {name: min(limit, measured[name]) for name, limit in limits.items()}
        LIMITS.write_text(_HEAD + "".join(f"{name} = {value}\n" for name, value in tightened.items()))
    print("limits:", ", ".join(f"{name} {value}" for name, value in measured.items()))
    return 1 if over else 0


def measure() -> dict[str, float]:
    """Return today's figures."""
    texts = {path: path.read_text() for path in sorted(SOURCE.rglob("*.py"))}
    functions = [node for text in texts.values() for node in _functions(ast.parse(text))]
    lengths = sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions)
    lines = sum(len(text.splitlines()) for text in texts.values())
    any_count = sum(len(re.findall(r"\bAny\b", _code(text))) for text in texts.values())
    ignores = sum(len(_IGNORE.findall(text)) for text in texts.values())
    return {
        "longest_function": lengths[-1],
        "function_p90": lengths[int(len(lengths) * 0.9)],
        "largest_file": max(len(text.splitlines()) for text in texts.values()),
        "most_parameters": max(_parameters(node) for node in functions),
        "any_per_kloc": round(1000 * any_count / lines, 2),
        "ignores_per_kloc": round(1000 * ignores / lines, 2),
    }


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _parameters(node: Function) -> int:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([one for one in arguments if one.arg not in {"self", "cls"}])


def _code(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "import" not in line)


_HEAD = "# The tail of src/, measured by tools/limits.py. These only ratchet down (--tighten).\n"

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
