"""Made-up values put into documents of the corpus, to see which of them are found: recall without anybody's reading.

The values are drawn here, by the forms that standards and makers publish, so by the same hands as the rules: what is
found of them is an upper bound of what is found of real ones. It shows where the corpus' own text hides values.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from strongroom.privacy.filter.checksums import luhn
from strongroom.privacy.filter.findings import SECRET, Finding

_HIDDEN_IN: Final = 8  # documents
_READ: Final = 20_000  # bytes of a document: what is made stays small, however long it is
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_COVERED: Final = 0.8  # of a value's bytes: then it is found
Find = Callable[[Sequence[bytes]], Mapping[int, list[Finding]]]


class _Draw:
    """Numbers that follow from a seed: the same in each run (BLAKE2b in counter mode)."""

    def __init__(self, seed: str) -> None:
        self._seed, self._count = seed.encode(), 0

    def below(self, most: int) -> int:
        self._count += 1
        raw = hashlib.blake2b(b"%s:%d" % (self._seed, self._count), digest_size=8).digest()
        return int.from_bytes(raw, "big") % most

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))

    def letters(self, count: int) -> str:
        return "".join(_LETTERS[self.below(26)] for _ in range(count))


def _email(draw: _Draw) -> str:
    return f"{draw.letters(5)}.{draw.letters(6)}@{draw.letters(7)}.{('com', 'org', 'de', 'co.uk')[draw.below(4)]}"


def _phone(draw: _Draw) -> str:
    country, area = ("49", "33", "44", "1", "34")[draw.below(5)], 2 + draw.below(8)
    number = f"{area}{draw.digits(2)} {draw.digits(3)} {draw.digits(4)}"
    return f"+{country} {number}" if draw.below(2) else f"Tel. {number}"


def _card(draw: _Draw) -> str:
    body = "4" + draw.digits(14)
    number = next(f"{body}{last}" for last in range(10) if luhn(f"{body}{last}"))
    return " ".join(number[at : at + 4] for at in range(0, 16, 4)) if draw.below(2) else number


def _iban(draw: _Draw) -> str:
    bank = draw.digits(18)
    return f"DE{98 - int(f'{bank}131400') % 97:02}{bank}"


def _national_id(draw: _Draw) -> str:
    return f"{1 + draw.below(6)}{draw.digits(1)}1-{1 + draw.below(9)}{draw.below(10)}-{draw.digits(3)}7"


def _ip(draw: _Draw) -> str:
    return f"{50 + draw.below(40)}.{40 + draw.below(200)}.{draw.below(250)}.{1 + draw.below(250)}"


def _secret(draw: _Draw) -> str:
    raw = base64.b64encode(hashlib.sha256(draw.digits(20).encode()).digest(), b"Xy").decode()
    return (f"ghp_{raw[:36]}", f"sk-proj-{raw[:40]}", f"password={raw[:14]}!7")[draw.below(3)]


_MAKE: Final[Mapping[str, Callable[[_Draw], str]]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "national_id": _national_id,
    "ip": _ip,
    SECRET: _secret,
}


def planted(find: Find, texts: Sequence[bytes]) -> dict[str, tuple[int, int]]:
    """Put one value of each kind into some texts, one at a time; return by kind how many were found, of how many.

    What is put where follows from the texts: the same corpus has the same figures, wherever it lies.
    """
    draw = _Draw(_seed(texts))
    made = list(_hidden(texts, draw)) if texts else []
    found = find([text for _, text, _ in made])
    tally: dict[str, tuple[int, int]] = {}
    for number, (kind, _, (start, end)) in enumerate(made):
        covered = sum(max(0, min(one.end, end) - max(one.start, start)) for one in found.get(number, ()))
        hits, tries = tally.get(kind, (0, 0))
        tally[kind] = hits + (covered >= _COVERED * (end - start)), tries + 1
    return tally


def _seed(texts: Sequence[bytes]) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for one in texts:
        whole.update(b"%d:%s" % (len(one), one))
    return whole.hexdigest()


def _hidden(texts: Sequence[bytes], draw: _Draw) -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    for _ in range(_HIDDEN_IN):
        text = texts[draw.below(len(texts))][:_READ].decode("utf-8", "ignore").encode()
        spaces = [place for place, byte in enumerate(text) if byte == 0x20]  # noqa: PLR2004 - a space
        for kind, make in _MAKE.items():
            at = spaces[draw.below(len(spaces))] if spaces else len(text)
            value = make(draw).encode()
            yield kind, b"%s %s%s" % (text[:at], value, text[at:] or b" "), (at + 1 + _told(value), at + 1 + len(value))


def _told(value: bytes) -> int:
    """Return how many bytes say what comes, and needn't be found."""
    for cue in (b"Tel. ", b"password="):
        if value.startswith(cue):
            return len(cue)
    return 0
