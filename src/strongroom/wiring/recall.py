"""The attached window index: opened for whoever attaches it, and told to gateways by control."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import digest
from strongroom.core.clock import stamp
from strongroom.core.errors import StrongroomError
from strongroom.core.log import log
from strongroom.custody.housekeys import CORPUS_MASTER
from strongroom.privacy.windows.layout import read_sealed
from strongroom.serving.recall.policy import Policy
from strongroom.serving.recalls import Attached
from strongroom.serving.roster import RosterRecall
from strongroom.wiring.privacy import index_key
from strongroom.wiring.serving import Serving
from strongroom.wiring.windows import open_index

_WHY: Final = "compare answers with a window index"


def attach(rooms: Serving, who: Identity, folder: Path, *, policy: Policy) -> Attached:
    """Attach the index in `folder`, once every byte of it was checked.

    Raises:
        NoSuchIndex, WrongKey, IndexAltered: it can't be opened with the home's key.
        NotPermitted: `who` may not manage serving, or not run it.

    """
    folder = folder.absolute()
    ident = read_sealed(folder).header.id
    master = rooms.housekeys.obtain(who, CORPUS_MASTER, Question("serving.run", purpose=_WHY))
    opened = open_index(folder, index_key(master, ident))
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
