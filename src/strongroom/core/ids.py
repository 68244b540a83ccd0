"""Names and ids: what a principal, a checkpoint and a request may be called.

Names go into paths, signed bytes and log lines, so the alphabet is small and a name never starts with a dot.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from strongroom.core.errors import BadName

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID_BYTES = 15  # 120 bits: no two homes ever draw the same


def new_id(kind: str) -> str:
    """Return a fresh id such as ``req_5x3k…``: the kind, then 120 random bits in lower-case hexadecimal."""
    return f"{kind}_{secrets.token_hex(_ID_BYTES)}"


def check_name(name: str, *, what: str) -> str:
    """Return `name` if it is a legal name for a `what`.

    Raises:
        BadName: it is empty, too long, or has a character outside the alphabet.

    """
    if not _NAME.fullmatch(name):
        raise BadName(f"{what} {name[:80]!r} is not a legal name", where=what)
    return name


@dataclass(frozen=True, slots=True, order=True)
class CheckpointName:
    """A checkpoint's name and tag, written ``NAME:TAG``."""

    name: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> CheckpointName:
        """Read ``NAME:TAG``.

        Raises:
            BadName: there is not exactly one colon, or a part is not a legal name.

        """
        name, colon, tag = text.partition(":")
        if not colon:
            raise BadName(f"{text[:80]!r} is not NAME:TAG", where="checkpoint")
        return cls(check_name(name, what="checkpoint name"), check_name(tag, what="checkpoint tag"))

    def __str__(self) -> str:
        """Return ``NAME:TAG``."""
        return f"{self.name}:{self.tag}"
