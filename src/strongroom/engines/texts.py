"""Texts that every CPython carries: its reference documentation to measure on, its docstrings to train on.

The two are disjoint (no docstring is a topic of the language reference), English with some code, and need no network.
They differ between versions of Python: `digest` says which text a figure was measured on.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

_ELSEWHERE = {"site-packages", "dist-packages", "test", "tests", "idlelib", "pydoc_data", "lib2to3", "__pycache__"}
_SHORTEST = 200  # letters: a shorter docstring says little


def default_texts() -> str:
    """Return the language reference: some 113,000 tokens of SmolLM2's vocabulary."""
    return "\n\n".join(topics[name] for name in sorted(topics))


def training_texts(most: int = 2_000_000) -> str:
    """Return docstrings of the standard library, in the order of its files' names: at most `most` letters."""
    found: list[str] = []
    for path in _library():
        if most <= 0:
            break
        for docstring in _docstrings(path):
            found.append(docstring[:most])
            most -= len(docstring)
    return "\n\n".join(found)


def docstrings() -> Iterator[str]:
    """Yield the docstrings of the standard library one by one, in the order of its files' names."""
    for path in _library():
        yield from _docstrings(path)


def source_texts(most: int = 2_000_000) -> str:
    """Return the standard library's sources, in the order of their files' names: at most `most` letters."""
    found: list[str] = []
    for path in _library():
        if most <= 0:
            break
        text = path.read_text(encoding="utf-8", errors="replace")[:most]
        found.append(text)
        most -= len(text)
    return "\n\n".join(found)


def digest(texts: str) -> str:
    """Return the hexadecimal SHA-256 of a text."""
    return hashlib.sha256(texts.encode()).hexdigest()


def _library() -> Iterator[Path]:
    """Yield the standard library's files, in order."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if _ELSEWHERE.isdisjoint(path.relative_to(root).parts):
            yield path


def _docstrings(path: Path) -> Iterator[str]:
    """Yield a module's docstrings from the top down; none of a file that this Python can't parse."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            if len(docstring) >= _SHORTEST:
                yield docstring
