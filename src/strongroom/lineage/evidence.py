"""What is committed to before a copy leaves, and what is shown when somebody is accused.

A commitment is one SHA-256 over a list of salted leaves, one for each of the secrets that a mark is made by, and, in
the clear, the number of segments and the scorer. So each secret can be shown by itself. By default an accusation shows
three: those of the biases, of the checkpoint's code and of the copy's. From these anybody draws the codes again, as the
format says, and recomputes the p-value from the values that were read off the file. Whoever is named as an expert is
shown those of chips, dither and segments too, and can read the values off the file themselves.

A commitment shows that nobody fitted the code to a file that came up after it. It does not show that the recipient
leaked: the one who issued the copy had it, too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from strongroom.core.canonical import Record, encode
from strongroom.core.errors import ProofInvalid
from strongroom.core.secrets import Secret
from strongroom.lineage.codes import COMMON, own_code
from strongroom.lineage.decode import SCORER, Candidate, Manner, Reading, Verdict, decode, scheme_of
from strongroom.lineage.keys import SCHEME, CheckpointKeys, checkpoint_keys, derive

_LEAF: Final = b"strongroom/weight-mark@1 leaf\n"
_COMMITMENT: Final = b"strongroom/weight-mark@1 commitment\n"
_MOST: Final = 1 << 16  # segments: 16 colluders of a million take 35,000
_MOST_COPIES: Final = 1 << 30
_MOST_ACCUSED: Final = 100

_COMMITTED: Final = (
    "The commitments stand in the ledger since the entries named: nobody chose a code to fit a file that came up later."
    " When that was, the home's clock says, and witnesses of the log bound. It does not show who passed the copy on: "
    "whoever issued it, or could open the original and held the mark's master secret, could have made the same file."
)
_EXACT: Final = (
    "The p-value is exact for every file made without knowledge of the accused copy's code. Whoever learnt that code, "
    "or the copy itself, is outside of it: a copy stolen from the recipient is still the recipient's copy."
)
_READ: Final = (
    "The values are the accuser's reading of the file whose SHA-256 is named. Only somebody who is shown the mark's "
    "secrets, as an expert, can read them off the file again."
)
_TRIED: Final = (
    "The number of copies that the p-value is corrected for is the issuer's count; whoever may read the ledger can "
    "count the copies in it."
)
_LOST: Final = "A mark does not outlive distillation; hidden units that were permuted must be aligned first."
LIMITS: Final = (_COMMITTED, _EXACT, _READ, _TRIED, _LOST)

Part = Literal["chips", "dither", "segments", "biases", "common", "code"]
SECRETS: Final[tuple[Part, ...]] = ("chips", "dither", "segments")
SHOWN: Final[tuple[Part, ...]] = ("biases", "common", "code")
_Key32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Opening(Record, frozen=True):
    """One part of a commitment, shown: its secret and the salt that hid it."""

    value: _Key32
    salt: _Key32


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
    values: Annotated[bytes, msgspec.Meta(max_length=8 * _MOST)]


class Evidence(Record, frozen=True):
    """What lets a stranger recompute a verdict."""

    readings: Annotated[tuple[Values, ...], msgspec.Meta(min_length=1, max_length=2)]
    accused: Annotated[tuple[Disclosure, ...], msgspec.Meta(min_length=1, max_length=_MOST_ACCUSED)]
    tried: Annotated[int, msgspec.Meta(ge=1, le=_MOST_COPIES)]
    versions: Annotated[int, msgspec.Meta(ge=1, le=_MOST_COPIES)]


@dataclass(frozen=True, slots=True)
class Commitment:
    """What the ledger holds of a copy, as far as evidence is checked by it."""

    digest: str
    recipient: str
    checkpoint: str
    segments: int


def committed(master: Secret, checkpoint: str, copy: str, *, segments: int) -> Made:
    """Return what is committed to for a copy of so many `segments`, and all openings: secrets until they are shown."""
    keys = checkpoint_keys(master, checkpoint)
    secrets: dict[Part, Secret] = {
        "chips": keys.chips,
        "dither": keys.dither,
        "segments": keys.segments,
        "biases": keys.biases,
        "common": keys.common,
        "code": derive(master, "code", copy),
    }
    openings: dict[Part, Opening] = {
        part: Opening(one.reveal(), derive(master, "salt", f"{copy}/{part}").reveal()) for part, one in secrets.items()
    }
    leaves: dict[Part, _Digest] = {part: _leaf(part, one) for part, one in openings.items()}
    return Committed(SCHEME, checkpoint, copy, segments, SCORER, leaves), openings


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


def replay(evidence: Evidence, commitments: Mapping[str, Commitment]) -> Verdict:
    """Recompute the verdict from what was shown. The ledger holds the `commitments`, by copy.

    Raises:
        ProofInvalid: a part is not what was committed to, or the commitment is not the ledger's.

    """
    for one in evidence.accused:
        _check(one, commitments.get(one.committed.copy))
    first = evidence.accused[0].committed
    common = {(one.committed.checkpoint, one.committed.segments, *_shared(one)) for one in evidence.accused}
    if len(common) != 1 or len({one.committed.copy for one in evidence.accused}) != len(evidence.accused):
        raise ProofInvalid("the accused are not different copies of one checkpoint", where="evidence")
    if len({one.manner for one in evidence.readings}) != len(evidence.readings):
        raise ProofInvalid("it has two readings of one manner", where="evidence")
    if any(len(one.values) != 8 * first.segments for one in evidence.readings):
        raise ProofInvalid("its readings have not the committed number of segments", where="evidence")
    scheme = scheme_of(*(Secret(secret) for secret in _shared(evidence.accused[0])), segments=first.segments)
    candidates = [
        Candidate(
            copy=one.committed.copy,
            recipient=commitments[one.committed.copy].recipient,
            code=own_code(Secret(one.shown["code"].value), scheme.bias),
        )
        for one in evidence.accused
    ]
    readings = [Reading(one.manner, np.frombuffer(one.values, "<f8")) for one in evidence.readings]
    return decode(readings, scheme, candidates, tried=evidence.tried, versions=evidence.versions)


def shown_keys(evidence: Evidence) -> CheckpointKeys | None:
    """Return the checkpoint's secrets, if the evidence shows them: it is an expert's, and was replayed before."""
    shown = evidence.accused[0].shown
    if not set(SECRETS) <= shown.keys():
        return None
    return CheckpointKeys(**{part: Secret(shown[part].value) for part in (*SECRETS, "biases", "common")})


def _shared(one: Disclosure) -> tuple[bytes, bytes]:
    """Return the secrets of biases and of the checkpoint's code."""
    return one.shown["biases"].value, one.shown["common"].value


def _check(one: Disclosure, known: Commitment | None) -> None:
    """Return if what is shown is what the ledger's commitment binds.

    Raises:
        ProofInvalid: it is not.

    """
    where = one.committed.copy
    if known is None or not hmac.compare_digest(one.committed.digest(), known.digest):
        raise ProofInvalid("the commitment is not the one in the ledger", where=where)
    if (one.committed.checkpoint, one.committed.segments) != (known.checkpoint, known.segments):
        raise ProofInvalid("checkpoint or segments are not those of the deed", where=where)
    if not set(SHOWN) <= one.shown.keys():
        raise ProofInvalid("biases and codes are not shown", where=where)
    for part, opening in one.shown.items():
        if one.committed.leaves.get(part) != _leaf(part, opening):
            raise ProofInvalid(f"the {part} are not those that were committed to", where=where)


def _shown(made: Made, parts: Sequence[Part]) -> Disclosure:
    whole, openings = made
    shown: dict[Part, Opening] = {part: openings[part] for part in parts}
    return Disclosure(whole, shown)


def _leaf(part: Part, opening: Opening) -> str:
    """Return a leaf: the SHA-256 of a format line, the part's name, its 32-byte salt and its 32-byte secret."""
    return hashlib.sha256(_LEAF + part.encode() + b"\n" + opening.salt + opening.value).hexdigest()
