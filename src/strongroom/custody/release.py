"""Staged release: copies that open only with a share that is published on a day (docs/formats/copy-1.md, section 5).

The share of a checkpoint version and a day is derived, so that one share opens every copy of that version under that
day, and nothing has to be kept until then but the house's release master.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import stamp
from strongroom.core.copy_errors import Embargoed, NoSuchCopy
from strongroom.core.errors import SignatureInvalid, WrongKey
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.copies import Premises
from strongroom.custody.copy_formats import (
    SHARE_TYPE,
    CopyIssuer,
    CopyTerms,
    ReleaseShare,
    Share,
    SignedShare,
    read_day,
)
from strongroom.custody.failures import failures
from strongroom.custody.formats import pae
from strongroom.custody.housekeys import RELEASE_MASTER
from strongroom.custody.keys import KEY_BYTES
from strongroom.custody.landing import write_new
from strongroom.custody.registry import subject
from strongroom.ledger.journal import Act, Detail

_SHARE: Final = b"strongroom/copy@1 release share\x00"
_RELEASE: Final = b"strongroom/copy@1 release"
RELEASED: Final = "custody.released"


def derive_share(master: Secret, checkpoint: str, embargo: str) -> Secret:
    """Return the release share of a checkpoint version and a day, from the house's release master."""
    info = _SHARE + encode([checkpoint, embargo])
    return Secret(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master.reveal()))


def commitment(share: Secret) -> str:
    """Return what copy.json names a share by. It has 256 random bits, so its hash gives nothing away."""
    return hashlib.sha256(_SHARE + share.reveal()).hexdigest()


def released_key(wrapped: Secret, share: Secret, copy: str) -> Secret:
    """Return the data key of a copy under an embargo, from what its envelope holds and the release share."""
    info = _RELEASE + copy.encode()
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=share.reveal(), info=info)
    return Secret(kdf.derive(wrapped.reveal()))


def release(premises: Premises, who: Identity, name: CheckpointName, *, embargo: str, out: Path) -> ReleaseShare:
    """Write the release share of `name` under the day `embargo` to the new file `out`, once that day has come.

    It holds a share for each version of `name` that was issued under that day.

    Raises:
        NotPermitted: the policy does not let `who` release.
        Embargoed: the day has not come.
        NoSuchCopy: no copy of `name` was issued under that day.

    """
    question = Question("custody.release", purpose=f"{name} under {embargo[:40]}")
    premises.desk.require(who, question)
    act = Act(who.label, RELEASED, subject(name), question.purpose)
    with failures(premises.journal, act):
        day, now = read_day(embargo, what="embargo"), premises.journal.now()
        if now < day:
            raise Embargoed(
                f"the embargo ends on {embargo}", where=str(name), remedy="Repeat the command on that day, or later."
            )
        issued = [one for one in premises.copies.of(name) if one.embargo == embargo]
        if not issued:
            raise NoSuchCopy("no copy was issued under that embargo", where=f"{name}, {embargo}")
    master = premises.housekeys.obtain(who, RELEASE_MASTER, question)
    detail: Detail = {"embargo": embargo, "copies": len(issued)}
    with failures(premises.journal, act, detail):
        versions = sorted({(one.version, one.checkpoint) for one in issued})
        try:
            shares = [_share(master, checkpoint, version=version, embargo=embargo) for version, checkpoint in versions]
        finally:
            master.wipe()
        released = ReleaseShare(
            home=premises.home,
            name=name.name,
            tag=name.tag,
            embargo=embargo,
            released=stamp(now),
            issuer=CopyIssuer(name=who.name, keys=who.keyring.public),
            shares=shares,
        )
        signature = who.keyring.sign(pae(SHARE_TYPE, encode(released)))
        write_new(out, encode(SignedShare(released=released, signature=signature)) + b"\n", mode=0o644)
    premises.journal.record(act, "done", detail=detail)
    return released


def _share(master: Secret, checkpoint: str, *, version: int, embargo: str) -> Share:
    share = derive_share(master, checkpoint, embargo)
    return Share(checkpoint=checkpoint, version=version, share=share.reveal())


def read_share(data: bytes, terms: CopyTerms, *, where: str) -> Secret:
    """Return the share in a published file, if it is the one that a copy needs.

    Raises:
        BadInput: it is no release share.
        SignatureInvalid: it was altered since it was released.
        WrongKey: it is of another checkpoint version, or of another day.

    """
    signed = decode(data.removesuffix(b"\n"), SignedShare, where=where)
    released = signed.released
    keys = released.issuer.keys
    try:
        keys.verify(signed.signature, pae(SHARE_TYPE, encode(released)), where=where)
    except SignatureInvalid:
        raise SignatureInvalid("the release share was altered", where=where) from None
    found = next((one for one in released.shares if one.checkpoint == terms.checkpoint), None)
    share = None if found is None else Secret(found.share)
    if share is None or commitment(share) != terms.share:
        there = f"{released.name}:{released.tag} under {released.embargo}"
        raise WrongKey(
            f"the share is for {there}, not for {terms.title} version {terms.version} under {terms.embargo}",
            where=where,
            remedy="Ask the issuer for the share of this checkpoint version and this day.",
        )
    return share
