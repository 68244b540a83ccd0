"""Public bases: models that anybody may have started from, so that sharing one proves nothing against anybody.

A base is named in the ledger, signed by whoever may ask whose copy a file is: where it lies, and what its tensors are.
Its weights are not copied. A base that is not there any more, or was changed, must be added anew before anything is
traced: left out in silence, it would make a relative look like a derivative.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.desk import Desk
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import digest, encode
from strongroom.core.errors import BadInput
from strongroom.core.ids import check_name
from strongroom.ledger.journal import Act, Detail, Journal

ADDED: Final = "lineage.base"
_FORMAT: Final = "strongroom/base@1"
_QUESTION: Final = Question("lineage.decode", purpose="add a public base")


@dataclass(frozen=True, slots=True)
class PublicBase:
    """A base: where it lies, and the digest of its tensors' digests."""

    name: str
    path: Path
    digest: str


class Bases:
    """The public bases of one house."""

    def __init__(self, desk: Desk, journal: Journal, *, home: str) -> None:
        """Keep them in the ledger behind `journal`."""
        self._desk, self._journal, self._home = desk, journal, home

    def add(self, who: Identity, name: str, path: Path, *, tensors: Mapping[str, str]) -> PublicBase:
        """Name a base, in place of one of the same name; `tensors` are the digests of its tensors.

        Raises:
            NotPermitted: the policy does not let `who` ask whose copy a file is.
            BadName: `name` is none.

        """
        check_name(name, what="public base")
        self._desk.require(who, _QUESTION)
        base = PublicBase(name, path.resolve(), digest(dict(tensors)))
        signature = base64.b64encode(who.keyring.sign(self._signed(base))).decode()
        detail: Detail = {
            "path": str(base.path),
            "digest": base.digest,
            "key": who.keyring.public.fingerprint(),
            "signature": signature,
        }
        self._journal.record(Act(who.label, ADDED, f"base:{name}"), "done", detail=detail)
        return base

    def all(self) -> list[PublicBase]:
        """Return the newest base of each name that somebody entitled has signed, by name."""
        found: dict[str, PublicBase] = {}
        for entry in self._journal.ledger.find(action=ADDED):
            event = entry.event
            base = PublicBase(
                event.object.partition(":")[2], Path(str(event.detail.get("path"))), str(event.detail.get("digest"))
            )
            if event.outcome == "done" and self._desk.was_signed(entry, self._signed(base), _QUESTION):
                found[base.name] = base
        return [found[name] for name in sorted(found)]

    def _signed(self, base: PublicBase) -> bytes:
        return encode([_FORMAT, self._home, base.name, str(base.path), base.digest])


def must_be_there(base: PublicBase) -> None:
    """Return if something lies at the base's place.

    Raises:
        BadInput: nothing does.

    """
    if not base.path.exists():
        raise BadInput(f"the public base {base.name!r} is not there", where=str(base.path), remedy=_put_back(base))


def check_unchanged(base: PublicBase, tensors: Mapping[str, str]) -> None:
    """Return if the tensors of what lies at the base's place are those that were added.

    Raises:
        BadInput: they are others.

    """
    if digest(dict(tensors)) != base.digest:
        message = f"the public base {base.name!r} is not what was added"
        raise BadInput(message, where=str(base.path), remedy=_put_back(base))


def _put_back(base: PublicBase) -> str:
    return f"Put it back, or say where it is: strongroom lineage base add {base.name} PATH"
