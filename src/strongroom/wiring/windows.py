"""Opens window indexes for those who compare answers with them. The gateway imports it: it stays small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from strongroom.core.canonical import Record, digest
from strongroom.core.privacy_errors import IndexAltered
from strongroom.core.secrets import Secret
from strongroom.ports.recall import Windows
from strongroom.serving.roster import RosterRecall
from strongroom.wiring.table import load

_ANOTHER: Final = "Attach the index that is there now, or put back the one that was attached."


class Opened(Windows, Protocol):
    """An index with its header."""

    @property
    def header(self) -> Record:
        """What it is: the digests of all its files are in it."""
        ...


_Open = Callable[[Path, Secret], Opened]


def open_index(folder: Path, key: Secret) -> Opened:
    """Open an index, once every byte of it was checked.

    Raises:
        NoSuchIndex, WrongKey, IndexAltered: it can't be had.

    """
    opening: _Open = load("recall", "windows")
    return opening(folder, key)


def open_attached(told: RosterRecall) -> Windows:
    """Open the index that control told of; it reads every byte, so not on an event loop.

    Raises:
        NoSuchIndex, WrongKey, IndexAltered: it can't be had, or another one stands in its place.

    """
    if not told.folder:
        raise IndexAltered("control could not say which index is attached", where="recall")
    opened = open_index(Path(told.folder), Secret(told.key))
    if digest(opened.header) != told.digest:
        raise IndexAltered("it is not the index that was attached", where=told.folder, remedy=_ANOTHER)
    return opened
