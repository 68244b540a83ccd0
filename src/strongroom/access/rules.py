"""Which policy is in force: the text whose digest the newest adoption in the ledger names, signed by an owner.

Texts are stored under their digest, so the records can't say which one counts; an adoption that no active owner signed
counts for nothing, even in the ledger, whose key has no passphrase.
"""

from __future__ import annotations

import base64

from strongroom.access.directory import People
from strongroom.access.identity import Identity
from strongroom.access.policy import Policy
from strongroom.access.roll import ADOPTED, record_standing
from strongroom.access.settle import settle
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import BadInput, Busy, NotPermitted, PolicyInvalid, RefusedError, SignatureInvalid
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Records

_KIND = "policy"
_ATTEMPTS = 5


class Rules:
    """The policies of one home, past and present."""

    def __init__(self, records: Records, journal: Journal, people: People, *, home: str) -> None:
        """Keep the policies of the home with the id `home`."""
        self._records = records
        self._journal = journal
        self._people = people
        self._home = home
        self._read: dict[int, Policy] = {}  # by ledger entry: an adoption never changes

    def current(self, *, before: int | None = None) -> Policy:
        """Return the policy in force before ledger entry `before` (None: now).

        Raises:
            PolicyInvalid: its text is gone or altered, or no active owner signed it; then nobody may anything.

        """
        found = self._adoptions()
        adoptions = [entry for entry in found if before is None or entry.index < before]
        if not adoptions:
            raise PolicyInvalid("no policy was adopted", where="policy")
        newest = adoptions[-1]
        if newest.index not in self._read:
            self._read[newest.index] = self._checked(newest, previous=adoptions[:-1])
        return self._read[newest.index]

    def adopt(self, text: str, by: Identity, *, why: str, request: str = "") -> Policy:
        """Put the policy `text` in force, signed by the owner `by`.

        Raises:
            NotPermitted: `by` is no active owner, whatever the policy in force may say.
            Busy: people or policy kept changing meanwhile.

        """
        policy = Policy(text)
        settle(self._records, _KIND, put={policy.digest: encode(text)})
        for attempt in range(_ATTEMPTS):
            try:
                self._enter(policy, by, why=why, request=request)
                break
            except Busy:  # an approval may have been spent on this: judge again rather than lose it
                if attempt == _ATTEMPTS - 1:
                    raise
        return policy

    def _enter(self, policy: Policy, by: Identity, *, why: str, request: str) -> None:
        moment = self._people.roll.moment()
        owner = self._people.find(by.name).certificate
        if owner.role != "owner" or owner.status != "active" or owner.keys != by.keyring.public:
            raise NotPermitted(f"{by.name} is no active owner: only owners adopt policies", where="policy")
        found = self._adoptions()
        signed = self._signed(policy.digest, previous=found, request=request)
        detail: Detail = {
            "digest": policy.digest,
            "request": request,
            "owner": by.name,
            "signature": base64.b64encode(by.keyring.sign(signed)).decode(),
        }
        record_standing(self._journal, Act(by.label, ADOPTED, "home", why), detail=detail, moment=moment)

    def _adoptions(self) -> list[Entry]:
        return list(self._journal.ledger.find(action=ADOPTED, object="home"))

    def _checked(self, entry: Entry, *, previous: list[Entry]) -> Policy:
        detail = entry.event.detail
        digest, owner, request = (str(detail.get(name, "")) for name in ("digest", "owner", "request"))
        message = self._signed(digest, previous=previous, request=request)
        try:
            certificate = self._people.find(owner, before=entry.index).certificate
            certificate.keys.verify(base64.b64decode(str(detail.get("signature"))), message, where="policy")
        except (RefusedError, SignatureInvalid, ValueError):
            raise PolicyInvalid("its adoption is not signed by an owner", where=f"ledger entry {entry.index}") from None
        if certificate.role != "owner" or certificate.status != "active":
            raise PolicyInvalid("it was adopted by no active owner", where=f"ledger entry {entry.index}")
        return self._text(digest)

    def _text(self, digest: str) -> Policy:
        stored = self._records.get(_KIND, digest)
        try:
            policy = None if stored is None else Policy(decode(stored.document, str, where="policy"))
        except BadInput:
            policy = None
        if policy is None or policy.digest != digest:
            raise PolicyInvalid("the policy that the ledger names is gone or altered", where="policy")
        return policy

    def _signed(self, digest: str, *, previous: list[Entry], request: str) -> bytes:
        """Return what an owner signs: the text, in its place after all earlier adoptions."""
        before = "" if not previous else str(previous[-1].event.detail.get("digest", ""))
        statement = {
            "digest": digest,
            "home": self._home,
            "number": len(previous),
            "previous": before,
            "request": request,
        }
        return b"strongroom policy v1\n" + encode(statement)
