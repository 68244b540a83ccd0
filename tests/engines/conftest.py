"""Small models, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.engines.models import MemorySource, write_plain


@pytest.fixture(scope="session")
def make_plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A plain model directory, written by transformers: by architecture, tied or not, and type."""
    made: dict[tuple[object, ...], Path] = {}

    def make(kind: str = "llama", *, tied: bool = True, dtype: str = "float32") -> Path:
        key = (kind, tied, dtype)
        if key not in made:
            directory = tmp_path_factory.mktemp("plain")
            write_plain(directory, kind, tied=tied, dtype=dtype)
            made[key] = directory
        return made[key]

    return make


@pytest.fixture
def source(make_plain: Callable[..., Path]) -> MemorySource:
    return MemorySource(make_plain())


@pytest.fixture(scope="session")
def open_plain() -> Callable[[Path], MemorySource]:
    return MemorySource
