"""Rows that an attack has made, kept in its folder, so that a run which was cut short goes on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

_Row = TypeVar("_Row")


class KeptRows(Generic[_Row]):
    """Rows of one kind, one a line: those of earlier runs count, the last of each name."""

    def __init__(self, file: Path, kind: type[_Row], name: Callable[[_Row], Hashable], *, fresh: bool) -> None:
        """Read what is in `file`, unless all is to be made again; `name` says what tells a row from others."""
        self._file = file
        self._name = name
        self._kept: dict[Hashable, _Row] = {}
        for line in file.read_bytes().splitlines() if file.is_file() and not fresh else []:
            try:
                row = msgspec.json.decode(line, type=kind)
            except msgspec.DecodeError:
                continue  # cut off, or of other columns
            self._kept[name(row)] = row

    def get(self, name: Hashable, make: Callable[[], _Row]) -> _Row:
        """Return the row of that name, making it if it isn't there."""
        return self.get_all([name], lambda: [make()])[0]

    def get_all(self, names: Sequence[Hashable], make: Callable[[], Sequence[_Row]]) -> list[_Row]:
        """Return the rows of these names, in this order; if one is missing, `make` makes all of them."""
        if any(name not in self._kept for name in names):
            with self._file.open("ab") as stream:
                for row in make():
                    self._kept[self._name(row)] = row
                    stream.write(msgspec.json.encode(row) + b"\n")
        return [self._kept[name] for name in names]
