"""Everybody's locked keys. The ledger names the box that counts: an earlier passphrase opens nothing any more."""

from __future__ import annotations

from strongroom.access.lockbox import Lockbox, lock
from strongroom.access.roll import CERTIFIED, subject
from strongroom.core.canonical import decode, digest, encode
from strongroom.core.errors import PrincipalAltered
from strongroom.core.secrets import Secret
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Journal
from strongroom.ports.records import Change, Records

PASSPHRASE_SET = "access.passphrase"  # noqa: S105 - the ledger action that says who set whose passphrase

_KIND = "lockbox"


class Lockers:
    """The boxes of one home."""

    def __init__(self, records: Records, journal: Journal) -> None:
        """Keep boxes in `records`, pinned by the ledger behind `journal`."""
        self._records = records
        self._journal = journal

    def put(self, name: str, seed: Secret, passphrase: Secret) -> str:
        """Lock `seed` in a new box, inert until the ledger names it; return its digest."""
        box = lock(seed, passphrase, name=name)
        self._records.apply([Change(_KIND, f"{name}/{digest(box)}", 0, encode(box))])
        return digest(box)

    def pin(self, name: str, box: str, *, by: str) -> None:
        """Make the box with the digest `box` the one that counts, set by `by`; earlier ones are thrown away."""
        self._journal.record(Act(by, PASSPHRASE_SET, subject(name)), "done", detail={"lockbox": box})
        self.drop(name, keep=box)

    def current(self, name: str) -> Lockbox:
        """Return the box that counts.

        Raises:
            PrincipalAltered: it is gone or another one.

        """
        entry = self._entry(name)
        key = "" if entry is None else f"{name}/{entry.event.detail.get('lockbox')}"
        stored = self._records.get(_KIND, key)
        if stored is None:
            raise PrincipalAltered("the locked keys that the ledger names are gone", where=name)
        box = decode(stored.document, Lockbox, where=name)
        if f"{name}/{digest(box)}" != key:
            raise PrincipalAltered("the locked keys are not the ones that the ledger names", where=name)
        return box

    def set_by(self, name: str) -> str:
        """Return the ledger's name of whoever set the passphrase that counts (``""``: nobody yet)."""
        entry = self._entry(name)
        return "" if entry is None else entry.event.who

    def drop(self, name: str, *, keep: str = "") -> None:
        """Throw away all of `name`'s boxes but `keep`."""
        old = [one for one in self._records.scan(_KIND, f"{name}/") if one.key != f"{name}/{keep}"]
        self._records.apply([Change(_KIND, one.key, one.version, None) for one in old])

    def _entry(self, name: str) -> Entry | None:
        """Return the newest entry that names a box: a passphrase that was set, or a certificate that came with one."""
        certified = self._journal.ledger.find(action=CERTIFIED, object=subject(name))
        entries = [one for one in certified if "lockbox" in one.event.detail]
        newest = self._journal.ledger.latest(PASSPHRASE_SET, subject(name))
        return max([*entries, *([newest] if newest else [])], key=lambda one: one.index, default=None)
