"""What is committed to before a copy leaves, and what is shown when somebody is accused.

A commitment is one SHA-256 over a list of salted leaves: chips, dither and segments (the secrets that the weights were
marked by), the biases, the checkpoint's code, the copy's code, and, in the clear, the design and the scorer. So each
part can be shown by itself. By default an accusation shows values, biases and codes, from which anybody recomputes the
p-value; whoever is named as an expert is shown the secrets too, and can read the values off the file.

A commitment shows that nobody fitted the code to the file afterwards. It does not show that the recipient leaked: the
one who issued the copy had it, too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from strongroom.core.canonical import Record, encode
from strongroom.core.errors import ProofInvalid
from strongroom.core.secrets import Secret
from strongroom.lineage.codes import COMMON, biases, common_code, own_code, packed, unpacked
from strongroom.lineage.decode import SCORER, Candidate, Manner, Reading, Scheme, Verdict, decode
from strongroom.lineage.keys import SCHEME, CheckpointKeys, checkpoint_keys, derive

_LEAF: Final = b"strongroom/weight-mark@1 leaf\n"
_COMMITMENT: Final = b"strongroom/weight-mark@1 commitment\n"
_MOST: Final = 1 << 20

_COMMITTED: Final = (
    "The commitment stood in the ledger before the copy left: nobody chose the code to fit the file. It does not show "
    "who passed the copy on. Whoever issued it, or could open the original and held the mark's master secret, could "
    "have made the same file."
)
_EXACT: Final = (
    "The p-value is exact for every file made without knowledge of the accused copy's code. Whoever learnt that code, "
    "or the copy itself, is outside of it: a copy stolen from the recipient is still the recipient's copy."
)
_TRIED: Final = (
    "The number of copies that the p-value is corrected for is the issuer's count; whoever may read the ledger can "
    "count the copies in it."
)
_LOST: Final = "A mark does not outlive distillation; hidden units that were permuted must be aligned first."
LIMITS: Final = (_COMMITTED, _EXACT, _TRIED, _LOST)

Part = Literal["chips", "dither", "segments", "biases", "common", "code"]
SECRETS: Final[tuple[Part, ...]] = ("chips", "dither", "segments")
SHOWN: Final[tuple[Part, ...]] = ("biases", "common", "code")
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Opening(Record, frozen=True):
    """One part of a commitment, shown: its value and the salt that hid it."""

    value: bytes
    salt: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Committed(Record, frozen=True):
    """What a commitment is the digest of."""

    scheme: Literal["strongroom/weight-mark@1"]
    checkpoint: str
    copy: str
    segments: Annotated[int, msgspec.Meta(ge=COMMON + 1, le=_MOST)]
    scorer: Literal["likelihood-ratios@1"]
    leaves: dict[Part, _Digest]

    def digest(self) -> str:
        """Return the commitment: the hexadecimal SHA-256 of a format line and the canonical JSON of this."""
        return hashlib.sha256(_COMMITMENT + encode(self)).hexdigest()


Made = tuple[Committed, dict[Part, Opening]]


class Disclosure(Record, frozen=True):
    """One accused copy: what was committed to, and the parts that are shown."""

    committed: Committed
    shown: dict[Part, Opening]


class Values(Record, frozen=True):
    """One reading: little-endian float64, NaN where the file holds nothing of a segment."""

    manner: Manner
    values: bytes


class Evidence(Record, frozen=True):
    """What lets a stranger recompute a verdict."""

    readings: tuple[Values, ...]
    accused: tuple[Disclosure, ...]
    tried: Annotated[int, msgspec.Meta(ge=1, le=_MOST)]
    versions: Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


def committed(master: Secret, checkpoint: str, copy: str, *, segments: int) -> Made:
    """Return what is committed to for a copy of so many `segments`, and all openings: secrets until they are shown."""
    keys = checkpoint_keys(master, checkpoint)
    bias = biases(keys.biases, segments - COMMON)
    values = _values(keys, bias.astype("<u2").tobytes(), packed(own_code(derive(master, "code", copy), bias)))
    openings: dict[Part, Opening] = {
        part: Opening(value, derive(master, "salt", f"{copy}/{part}").reveal()) for part, value in values.items()
    }
    leaves: dict[Part, _Digest] = {part: _leaf(part, one) for part, one in openings.items()}
    whole = Committed(SCHEME, checkpoint, copy, segments, SCORER, leaves)
    return whole, openings


def disclose(
    verdict: Verdict, readings: Sequence[Reading], made: Mapping[str, Made], *, expert: bool = False
) -> Evidence:
    """Return the evidence of a verdict: of those that are named, or of the one that fits best; secrets to an expert."""
    accused = [one.copy for one in verdict.colluders] or ([verdict.copy] if verdict.copy else [])
    parts: tuple[Part, ...] = (*SHOWN, *SECRETS) if expert else SHOWN
    return Evidence(
        readings=tuple(Values(one.manner, one.values.astype("<f8").tobytes()) for one in readings),
        accused=tuple(_shown(made[copy], parts) for copy in accused),
        tried=verdict.tried,
        versions=verdict.versions,
    )


def replay(evidence: Evidence, commitments: Mapping[str, tuple[str, str]]) -> Verdict:
    """Recompute the verdict from what was shown. The ledger holds the `commitments`, and recipients, by copy.

    Raises:
        ProofInvalid: a part is not what was committed to, or the commitment is not the ledger's.

    """
    if not evidence.accused:
        raise ProofInvalid("nobody is accused in it", where="evidence")
    if not evidence.readings or any(len(one.values) % 8 for one in evidence.readings):
        raise ProofInvalid("its readings are no numbers", where="evidence")
    readings = [Reading(one.manner, np.frombuffer(one.values, "<f8")) for one in evidence.readings]
    candidates, schemes = list[Candidate](), list[tuple[bytes, bytes]]()
    for one in evidence.accused:
        where = one.committed.copy
        known, recipient = commitments.get(where, ("", ""))
        _check(one, known)
        own = one.committed.segments - COMMON
        schemes.append((one.shown["biases"].value, one.shown["common"].value))
        candidates.append(Candidate(where, recipient, unpacked(one.shown["code"].value, own)))
        if len(schemes[-1][0]) != 2 * own or any(len(each.values) != own + COMMON for each in readings):
            raise ProofInvalid("its parts have not the committed number of segments", where=where)
    if len(set(schemes)) != 1:
        raise ProofInvalid("the accused copies are not of one checkpoint", where="evidence")
    bias, common = schemes[0]
    scheme = Scheme(np.frombuffer(bias, "<u2").astype(np.uint16), unpacked(common, COMMON))
    return decode(readings, scheme, candidates, tried=evidence.tried, versions=evidence.versions)


def _check(one: Disclosure, known: str) -> None:
    """Return if what is shown is what the ledger's commitment binds.

    Raises:
        ProofInvalid: it is not.

    """
    where = one.committed.copy
    if not hmac.compare_digest(one.committed.digest(), known):
        raise ProofInvalid("the commitment is not the one in the ledger", where=where)
    if not set(SHOWN) <= one.shown.keys():
        raise ProofInvalid("biases and codes are not shown", where=where)
    for part, opening in one.shown.items():
        if one.committed.leaves.get(part) != _leaf(part, opening):
            raise ProofInvalid(f"the {part} are not those that were committed to", where=where)


def _shown(made: Made, parts: Sequence[Part]) -> Disclosure:
    whole, openings = made
    shown: dict[Part, Opening] = {part: openings[part] for part in parts}
    return Disclosure(whole, shown)


def _values(keys: CheckpointKeys, bias: bytes, code: bytes) -> dict[Part, bytes]:
    return {
        "chips": keys.chips.reveal(),
        "dither": keys.dither.reveal(),
        "segments": keys.segments.reveal(),
        "biases": bias,
        "common": packed(common_code(keys.common)),
        "code": code,
    }


def _leaf(part: Part, opening: Opening) -> str:
    """Return a leaf: the SHA-256 of a format line, the part's name, its 32-byte salt and its value."""
    return hashlib.sha256(_LEAF + part.encode() + b"\n" + opening.salt + opening.value).hexdigest()
