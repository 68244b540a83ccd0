"""The attached window index: opened for whoever attaches it and for gateways, told to gateways by control."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import Record, digest
from strongroom.core.clock import stamp
from strongroom.core.errors import StrongroomError
from strongroom.core.log import log
from strongroom.core.privacy_errors import IndexAltered
from strongroom.core.secrets import Secret
from strongroom.custody.housekeys import CORPUS_MASTER
from strongroom.ports.recall import Windows
from strongroom.privacy.windows.layout import read_sealed
from strongroom.serving.recall.policy import Policy
from strongroom.serving.recalls import Attached
from strongroom.serving.roster import RosterRecall
from strongroom.wiring.privacy import index_key
from strongroom.wiring.serving import Serving
from strongroom.wiring.table import load

_WHY: Final = "compare answers with a window index"
_ANOTHER: Final = "Attach the index that is there now, or put back the one that was attached."


class _Opened(Windows, Protocol):
    @property
    def header(self) -> Record: ...


_Open = Callable[[Path, Secret], _Opened]


def attach(rooms: Serving, who: Identity, folder: Path, policy: Policy) -> Attached:
    """Attach the index in `folder`, once every byte of it was checked.

    Raises:
        NoSuchIndex, WrongKey, IndexAltered: it can't be opened with the home's key.
        NotPermitted: `who` may not manage serving, or not run it.

    """
    folder = folder.absolute()
    ident = read_sealed(folder).header.id
    master = rooms.housekeys.obtain(who, CORPUS_MASTER, Question("serving.run", purpose=_WHY))
    opened = _open(folder, index_key(master, ident))
    made = Attached(
        index=ident,
        digest=digest(opened.header),
        folder=str(folder),
        window=opened.window,
        stride=opened.stride,
        policy=policy,
        since=stamp(rooms.home.clock.now()),
    )
    return rooms.recalls.attach(who, made)


def open_attached(told: RosterRecall) -> Windows:
    """Open the index that control told of; it reads every byte, so not on an event loop.

    Raises:
        NoSuchIndex, WrongKey, IndexAltered: it can't be had, or another one stands in its place.

    """
    if not told.folder:
        raise IndexAltered("control could not say which index is attached", where="recall")
    opened = _open(Path(told.folder), Secret(told.key))
    if digest(opened.header) != told.digest:
        raise IndexAltered("it is not the index that was attached", where=told.folder, remedy=_ANOTHER)
    return opened


def _open(folder: Path, key: Secret) -> _Opened:
    opening: _Open = load("recall", "windows")
    return opening(folder, key)


class Tells:
    """What control tells gateways of the attached index: it holds the key of the last one."""

    __slots__ = ("_key", "_operator", "_rooms")

    def __init__(self, rooms: Serving, operator: Identity) -> None:
        """Obtain keys as `operator`, once one is needed."""
        self._rooms = rooms
        self._operator = operator
        self._key: tuple[str, bytes] = ("", b"")

    def now(self) -> RosterRecall | None:
        """Return what is attached, with its key; where that can't be had, what keeps gateways shut (rule 10)."""
        try:
            found = self._rooms.recalls.current()
            return found and RosterRecall(found.index, found.digest, found.folder, self._key_of(found), found.policy)
        except StrongroomError as error:
            log.error("the attached window index can not be told", code=error.code, where=error.where)
            return RosterRecall()

    def _key_of(self, found: Attached) -> bytes:
        if self._key[0] != found.index:
            question = Question("serving.run", purpose=_WHY)
            master = self._rooms.housekeys.obtain(self._operator, CORPUS_MASTER, question)
            self._key = (found.index, index_key(master, found.index).reveal())
            master.wipe()
        return self._key[1]
