"""What is put in a finding's place: its kind, or a pseudonym that is the same for the same value.

A pseudonym is keyed (BLAKE2b): without the key nobody can try values until one fits. Secrets are always masked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal, get_args

from strongroom.core.secrets import Secret
from strongroom.privacy.filter.findings import SECRET, Finding

Action = Literal["drop", "mask", "pseudonymise"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
LEAST_KEY: Final = 32  # bytes
_NUMBERS: Final = frozenset({"phone", "card", "iban", "national_id", "mac"})
_AS_WRITTEN: Final = frozenset({"ip", "wallet"})
_AT: Final = re.compile(r" ?[\[({<] ?at ?[\])}>] ?")
_DOT: Final = re.compile(r" ?[\[({<] ?dot ?[\])}>] ?")
_WORDS: Final = re.compile(r"\w+")
_PERSON: Final = b"strongroom-psnym"  # BLAKE2b's personalisation: 16 bytes
_SIZE: Final = 6  # bytes of a pseudonym: among a million values of a kind two are taken for one with chance 0.002


def replace(text: bytes, found: Sequence[Finding], key: Secret | None) -> bytes:
    """Return `text` (UTF-8) with each finding replaced: by ``[KIND]``, or with a key by ``[KIND-0123456789ab]``.

    An e-mail address becomes another one, at ``example.invalid``.
    """
    out, at = list[bytes](), 0
    for one in found:
        out += (text[at : one.start], _stand_in(one, text[one.start : one.end], key))
        at = one.end
    return b"".join((*out, text[at:]))


def check_value(key: Secret) -> str:
    """Return what tells this key from another, and nothing else of it."""
    return _pseudonym("check", b"", key)


def _stand_in(one: Finding, value: bytes, key: Secret | None) -> bytes:
    label = one.kind.upper()
    if key is None or one.kind == SECRET:
        return f"[{label}]".encode()
    number = _pseudonym(one.kind, value, key)
    return f"person-{number}@example.invalid".encode() if one.kind == "email" else f"[{label}-{number}]".encode()


def _plain(kind: str, text: str) -> str:
    """Return a value without what only its spelling adds: case, spaces, and the punctuation in numbers.

    Elsewhere punctuation tells one value from another: 1.23.4.5 is not 12.3.4.5, nor a-b@c.org ab@c.org.
    """
    if kind in _NUMBERS:
        return "".join(one for one in text if one.isalnum())
    if kind == "email":
        return "".join(_DOT.sub(".", _AT.sub("@", text)).split())
    return " ".join(text.split()) if kind in _AS_WRITTEN else " ".join(_WORDS.findall(text))


def _pseudonym(kind: str, value: bytes, key: Secret) -> str:
    """Return the same for the same value, however it is spelt."""
    plain = _plain(kind, value.decode().casefold())
    keyed = hashlib.blake2b(key=key.reveal()[:64], person=_PERSON, digest_size=_SIZE)
    keyed.update(f"{kind}\0{plain}".encode())
    return keyed.hexdigest()
