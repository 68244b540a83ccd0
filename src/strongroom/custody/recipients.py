"""Whom copies are issued to: a person, a team, an organisation or a device, each with a public key of its own.

A recipient is no principal: it has no place in the home and may nothing there. Its key came from outside, so whoever
approves a copy is shown its fingerprint. Of several deeds for a name the first counts, for ever.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec

from strongroom.access.deeds import Deeds, Series
from strongroom.access.identity import Identity
from strongroom.access.keys import PublicKeys
from strongroom.core.canonical import Record
from strongroom.core.copy_errors import NoSuchRecipient
from strongroom.core.errors import AlreadyExists
from strongroom.core.ids import check_name

RECIPIENTS: Final = Series("custody.entered", "custody.recipient")
COPIES: Final = Series("custody.entered", "lineage.decode")

Kind = Literal["person", "team", "organisation", "device"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Recipient(Record, frozen=True, kw_only=True):
    """Somebody who may be given copies."""

    format: Literal["strongroom/recipient@1"] = "strongroom/recipient@1"
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    kind: Kind
    keys: PublicKeys


class Recipients:
    """The recipients of one home."""

    def __init__(self, deeds: Deeds) -> None:
        """Keep everything as `deeds`."""
        self._deeds = deeds

    def add(self, who: Identity, recipient: Recipient) -> None:
        """Add a recipient; a name stands for one key for ever.

        Raises:
            NotPermitted: `who` may not.
            AlreadyExists: there is one of that name, or with that key.

        """
        subject = f"recipient:{check_name(recipient.name, what='recipient')}"
        if self._first(recipient.name) is not None:
            raise AlreadyExists("there is a recipient of that name", where=recipient.name)
        if other := next((one.name for one in self.all() if one.keys == recipient.keys), None):
            raise AlreadyExists(f"{other} has that very key: whose copy it was could not be told", where=recipient.name)
        self._deeds.enter(who, subject, recipient, why=f"add {recipient.kind} {recipient.name}")

    def find(self, name: str) -> Recipient:
        """Return the recipient of that name.

        Raises:
            NoSuchRecipient: there is none.

        """
        found = self._first(check_name(name, what="recipient"))
        if found is None:
            raise NoSuchRecipient("no recipient of that name", where=name)
        return found

    def all(self) -> list[Recipient]:
        """Return every recipient, by name."""
        names = (one.partition(":")[2] for one in self._deeds.subjects("recipient:"))
        return [one for one in map(self._first, names) if one is not None]

    def _first(self, name: str) -> Recipient | None:
        """Return who was entered under `name` first, or None."""
        entered = self._deeds.each(f"recipient:{name}", Recipient)
        return next((one for _, one in entered if one.name == name), None)
