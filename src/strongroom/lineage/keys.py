"""The secrets of weight marks, all derived from one master secret (HKDF-SHA-256, RFC 5869). None is ever stored.

Five belong to a checkpoint version and are common to all of its copies; one belongs to a copy. The salt is the scheme's
name, the info the canonical JSON (RFC 8785) of [use, id]: no two secrets share a spelling.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.core.canonical import encode
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret

SCHEME: Final = "strongroom/weight-mark@1"
KEY_BYTES: Final = 32

Use = Literal["chips", "dither", "segments", "biases", "common", "code", "salt", "tensor", "units", "signature"]


@dataclass(frozen=True, slots=True)
class CheckpointKeys:
    """The secrets that all copies of a checkpoint version share."""

    chips: Secret = field(repr=False)  # the sign of every weight's change
    dither: Secret = field(repr=False)  # the stochastic rounding to the file's dtype
    segments: Secret = field(repr=False)  # which hidden unit is in which segment
    biases: Secret = field(repr=False)  # how often each segment's code bit is +1
    common: Secret = field(repr=False)  # the checkpoint's own code


def checkpoint_keys(master: Secret, checkpoint: str) -> CheckpointKeys:
    """Return the secrets of the checkpoint version with the id `checkpoint`."""
    return CheckpointKeys(
        chips=derive(master, "chips", checkpoint),
        dither=derive(master, "dither", checkpoint),
        segments=derive(master, "segments", checkpoint),
        biases=derive(master, "biases", checkpoint),
        common=derive(master, "common", checkpoint),
    )


def derive(master: Secret, use: Use, ident: str) -> Secret:
    """Return the 32-byte secret for one `use` of the checkpoint, copy, tensor … `ident`.

    Raises:
        BadInput: the master secret has less than 32 bytes, or `ident` is empty.

    """
    if len(master.reveal()) < KEY_BYTES or not ident:
        raise BadInput("weight marks need a master secret of 32 bytes and an id", where="mark master")
    info = encode([use, ident])
    return Secret(HKDF(SHA256(), KEY_BYTES, salt=SCHEME.encode(), info=info).derive(master.reveal()))
