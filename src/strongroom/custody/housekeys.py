"""Keys of the house: secrets that belong to no checkpoint, wrapped to everybody whom the policy lets use them.

Their envelopes are kept beside those of checkpoints, so a new passphrase re-wraps them and a disabled person loses
them like any other.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from strongroom.access.desk import Desk, Matter
from strongroom.access.identity import Identity
from strongroom.access.keys import PublicKeys
from strongroom.access.policy import HomeAction, Question
from strongroom.core.canonical import encode
from strongroom.core.errors import Busy, WrongKey
from strongroom.core.ids import new_id
from strongroom.core.secrets import Secret
from strongroom.custody.keys import KEY_BYTES, rewrap_key, unwrap_key, wrap_key
from strongroom.custody.registry import Registry
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal

MADE: Final = "custody.housekey"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class HouseKey:
    """A key of the house: its name in the ledger, and what lets somebody hold it."""

    name: str
    rights: tuple[HomeAction, ...]


MARK_MASTER: Final = HouseKey("mark-master", ("serving.run", "watermark.detect"))
"""What every account's watermark key is derived from."""

LINEAGE_MASTER: Final = HouseKey("lineage-master", ("lineage.decode",))
"""What the marks of issued copies are derived from."""

RELEASE_MASTER: Final = HouseKey("release-master", ("custody.release",))
"""What the release shares of copies under an embargo are derived from."""

CORPUS_MASTER: Final = HouseKey("corpus-master", ("privacy.corpus", "serving.run"))
"""What the keys of window indexes and of pseudonyms are derived from."""

HOUSE_KEYS: Final = (MARK_MASTER, LINEAGE_MASTER, RELEASE_MASTER, CORPUS_MASTER)


class HouseKeys:
    """The keys of one house."""

    def __init__(self, desk: Desk, journal: Journal, registry: Registry) -> None:
        """Keep envelopes in `registry`, and which key counts in the ledger behind `journal`."""
        self._desk = desk
        self._journal = journal
        self._registry = registry

    def obtain(self, who: Identity, key: HouseKey, question: Question) -> Secret:
        """Return the key, made now if there is none yet; its ledger entry stands before it is released (rule 1).

        Raises:
            NotPermitted: the policy does not let `who` do what `question` asks.
            WrongKey: nobody wrapped it to `who`, or it is not the one that the ledger names.

        """
        self._desk.demand(who, question, Matter(detail={"key": key.name}))
        found = self._which(key)
        ident, commitment = found or self._make(who, key)
        own = self._registry.envelope(ident, who.name, who.keyring.public)
        if own is None:
            raise WrongKey(f"nobody wrapped the {key.name} to {who.name}", where=f"housekey:{key.name}")
        secret = unwrap_key(own, who.keyring, checkpoint=ident, version=_VERSION)
        if _commitment(secret) != commitment:
            secret.wipe()
            raise WrongKey("it is not the key that the ledger names", where=f"housekey:{key.name}")
        return secret

    def exists(self, key: HouseKey) -> bool:
        """Whether the key was ever made."""
        return self._which(key) is not None

    def rewrap(self, who: Identity, key: HouseKey) -> bool:
        """Bring the envelopes of `key` in line with people and policy; return whether any changed."""
        found = self._which(key)
        if found is None:
            return False
        ident, _ = found
        wanted = self._holders(key)
        held = self._registry.envelopes(ident)
        fitting = {one.person for one in held if one.fits(wanted.get(one.person), _VERSION)}
        missing = sorted(wanted.keys() - fitting)
        extra = [one for one in held if one.person not in wanted]
        own = self._registry.envelope(ident, who.name, who.keyring.public)
        if own is None or not (missing or extra):
            return False
        act = Act(who.label, "custody.rewrap", f"housekey:{key.name}")
        dropped = ",".join(sorted({one.person for one in extra}))
        self._journal.record(act, "granted", detail={"add": ",".join(missing), "drop": dropped})
        added = [rewrap_key(own, who.keyring, wanted[name], person=name) for name in missing]
        self._registry.exchange(add=added, drop=extra)
        return True

    def _make(self, who: Identity, key: HouseKey) -> tuple[str, str]:
        """Draw the key: envelopes first, inert, then the ledger entry that makes them count, of which there is one."""
        secret, ident = Secret(secrets.token_bytes(KEY_BYTES)), new_id("housekey")
        try:
            commitment = _commitment(secret)
            envelopes = [
                wrap_key(secret, keys, person=name, checkpoint=ident, version=_VERSION)
                for name, keys in self._holders(key).items()
            ]
        finally:
            secret.wipe()
        self._registry.exchange(add=envelopes, drop=[])
        signature = who.keyring.sign(_signed(key, ident, commitment))
        detail: Detail = {
            "id": ident,
            "digest": commitment,
            "key": who.keyring.public.fingerprint(),
            "signature": base64.b64encode(signature).decode(),
        }
        self._journal.record(Act(who.label, MADE, f"housekey:{key.name}"), "done", detail=detail)
        counts = self._which(key)
        if counts is None:  # keys or rights changed at this very moment
            where, remedy = f"housekey:{key.name}", "Repeat the command."
            raise Busy("the key that was just made does not count", where=where, remedy=remedy)
        if counts[0] != ident:  # somebody else made it at the same time, and was first
            self._registry.exchange(add=[], drop=self._registry.envelopes(ident))
        return counts

    def _which(self, key: HouseKey) -> tuple[str, str] | None:
        """Return the id and commitment of the key that counts: the first that somebody entitled signed."""
        for entry in self._journal.ledger.find(action=MADE, object=f"housekey:{key.name}"):
            if self._is_signed(entry, key):
                return str(entry.event.detail.get("id")), str(entry.event.detail.get("digest"))
        return None

    def _is_signed(self, entry: Entry, key: HouseKey) -> bool:
        """Whether the entry's maker might hold the key then, and signed it: the log's key alone plants none."""
        detail = entry.event.detail
        message = _signed(key, str(detail.get("id")), str(detail.get("digest")))
        return self._desk.was_signed(entry, message, *map(Question, key.rights))

    def _holders(self, key: HouseKey) -> dict[str, PublicKeys]:
        policy = self._desk.rules.current()
        return {
            person.name: person.certificate.keys
            for person in self._desk.people.everybody()
            if any(policy.approvals_needed(person.certificate, Question(one)) is not None for one in key.rights)
        }


def _signed(key: HouseKey, ident: str, commitment: str) -> bytes:
    return b"strongroom housekey v1\n" + encode({"digest": commitment, "id": ident, "name": key.name})


def _commitment(secret: Secret) -> str:
    """Return what the ledger names the key by. It has 256 random bits, so its hash gives nothing away."""
    return hashlib.sha256(b"strongroom housekey v1\x00" + secret.reveal()).hexdigest()
