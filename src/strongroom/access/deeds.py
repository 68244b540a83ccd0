"""Deeds: documents that count because somebody entitled signed them into the ledger: of accounts, recipients, copies.

The ledger's key has no passphrase and the records have no lock, so neither alone can be believed: an entry counts only
if whoever is named in it had the right to it then, and signed the document's digest in its place after the entry
before it. So nobody who merely writes files can make a key, raise a limit, or bring a revoked key back. Of several
about the same subject the newest counts (`read`), but where nobody may change what was said: there the first (`each`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from strongroom.access.desk import Desk, Matter
from strongroom.access.identity import Identity
from strongroom.access.policy import HomeAction, Question
from strongroom.access.settle import settle
from strongroom.core.canonical import Record, decode, digest, encode
from strongroom.core.errors import BadInput, Busy, RecordAltered
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Records

_KIND: Final = "deed"

D = TypeVar("D", bound=Record)


@dataclass(frozen=True, slots=True)
class Series:
    """Deeds of one kind: the ledger action that enters them, and the right that whoever signs one must have."""

    entered: str
    right: HomeAction


class Deeds:
    """The deeds of one series of a home, by subject (``account:acme``, ``recipient:lab``, ``terms``)."""

    def __init__(self, records: Records, journal: Journal, desk: Desk, *, series: Series, home: str) -> None:
        """Keep documents in `records`, pinned by the ledger behind `journal`."""
        self._series = series
        self._records = records
        self._journal = journal
        self._desk = desk
        self._home = home
        self._judged: dict[int, bool] = {}  # by ledger entry: an entry never changes

    def enter(self, who: Identity, subject: str, document: Record, *, why: str, after: int | None = None) -> None:
        """Enter `document` for `subject`: the newest from now on.

        `after` is the `place` at which what it was made from was read: then it counts only if nothing came between.

        Raises:
            NotPermitted: `who` has not the right.
            Busy: somebody else wrote about the same subject meanwhile.

        """
        grant = self._desk.demand(who, Question(self._series.right, purpose=why), Matter(detail={"of": subject}))
        signer, place = grant.identity, self.place(subject) if after is None else after
        settle(self._records, _KIND, put={f"{subject}/{digest(document)}": encode(document)})
        signed = deed_bytes(subject, digest(document), home=self._home, after=place)
        detail: Detail = {
            "digest": digest(document),
            "after": place,
            "key": signer.keyring.public.fingerprint(),
            "signature": base64.b64encode(signer.keyring.sign(signed)).decode(),
        }
        receipt = self._journal.record(Act(signer.label, self._series.entered, subject, why), "done", detail=detail)
        # No claim: the log's key could take it first. Of two that were written after the same one, the first counts.
        if self.place(subject) != receipt.index:
            raise Busy("somebody else wrote about it meanwhile", where=subject, remedy="Repeat the command.")

    def read(self, subject: str, kind: type[D]) -> D | None:
        """Return what counts for `subject`, or None: the newest.

        Raises:
            RecordAltered: the document that the ledger names is gone or another.

        """
        chain = self.history(subject)
        if not chain:
            return None
        try:
            return _document(self._stored(chain[-1]), kind, where=subject)
        except BadInput:
            raise RecordAltered("the document is none", where=subject) from None

    def each(self, subject: str, kind: type[D]) -> Iterator[tuple[Entry, D]]:
        """Yield every `kind` of document that was entered for `subject`, with its entry, oldest first.

        Raises:
            RecordAltered: as `read`; a document that was entered as another kind is none, and is left out.

        """
        for entry in self.history(subject):
            try:
                document = _document(self._stored(entry), kind, where=subject)
            except BadInput:
                continue
            yield entry, document

    def _stored(self, entry: Entry) -> bytes:
        """Return the document that an entry names."""
        subject, named = entry.event.object, str(entry.event.detail.get("digest"))
        stored = self._records.get(_KIND, f"{subject}/{named}")
        if stored is None:
            raise RecordAltered("the document that the ledger names is gone", where=subject)
        if hashlib.sha256(stored.document).hexdigest() != named:
            raise RecordAltered("the document is not the one that the ledger names", where=subject)
        return stored.document

    def subjects(self, prefix: str) -> Sequence[str]:
        """Return every subject with that prefix, whether or not anything counts for it."""
        entries = self._journal.ledger.find(action=self._series.entered)
        return sorted({entry.event.object for entry in entries if entry.event.object.startswith(prefix)})

    def history(self, subject: str) -> list[Entry]:
        """Return the entries that count, oldest first."""
        chain = list[Entry]()
        for entry in self._entries(subject):
            if entry.event.detail.get("after") == (chain[-1].index if chain else -1) and self._counts(entry):
                chain.append(entry)
        return chain

    def _entries(self, subject: str) -> Iterator[Entry]:
        return self._journal.ledger.find(action=self._series.entered, object=subject)

    def place(self, subject: str) -> int:
        """Return the index of the entry that counts, or -1."""
        chain = self.history(subject)
        return chain[-1].index if chain else -1

    def _counts(self, entry: Entry) -> bool:
        if entry.index not in self._judged:
            self._judged[entry.index] = entry.event.outcome == "done" and self._entitled(entry)
        return self._judged[entry.index]

    def _entitled(self, entry: Entry) -> bool:
        """Whether the entry's maker might make it then, and signed it."""
        detail, after = entry.event.detail, entry.event.detail.get("after")
        place = after if isinstance(after, int) else -1
        message = deed_bytes(entry.event.object, str(detail.get("digest")), home=self._home, after=place)
        return self._desk.was_signed(entry, message, Question(self._series.right))


def deed_bytes(subject: str, named: str, *, home: str, after: int) -> bytes:
    """Return what the signer of a deed signs: the digest `named`, in its place after the ledger entry `after`."""
    return b"strongroom deed v1\n" + encode({"after": after, "digest": named, "home": home, "subject": subject})


def _document(stored: bytes, kind: type[D], *, where: str) -> D:
    """Return what a document says: its bytes are those that were signed, some before a member was added to its kind."""
    return decode(stored, kind, where=where, canonical=False)
