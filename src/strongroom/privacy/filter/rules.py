"""A file of rules: what it adds to the built-in ones, changes and disables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Final

import msgspec

from strongroom.core.canonical import digest
from strongroom.core.privacy_errors import BadRules
from strongroom.privacy.filter.builtin import RULES, Rule
from strongroom.privacy.filter.checksums import luhn, mod11_10, verhoeff
from strongroom.privacy.filter.findings import Finding
from strongroom.privacy.filter.scan import Scanner
from strongroom.privacy.filter.tokens import opaque

LIMIT: Final = 1 << 20  # bytes of a file of rules
INNER: Final = ("card", "phone", "national-id")
"""What the rule "number" finds can be disabled one by one, too."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,40}")


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    kind: str
    expression: str
    check: str = ""
    caseless: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: tuple[_Rule, ...] = ()
    disable: tuple[str, ...] = ()


def _digits(check: Callable[[str], bool], value: bytes) -> bool:
    digits = re.sub(rb"[^0-9]", b"", value).decode()
    return len(digits) > 1 and check(digits)


_CHECKS: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "": bool,
    "luhn": partial(_digits, luhn),
    "verhoeff": partial(_digits, verhoeff),
    "mod11-10": partial(_digits, mod11_10),
    "opaque": opaque,
}


class Rules:
    """The rules that are in force, compiled."""

    def __init__(self, rules: tuple[Rule, ...], disabled: frozenset[str]) -> None:
        """Compile them.

        Raises:
            BadRules: an expression can't be compiled.

        """
        self.scanner = Scanner(rules, disabled)
        said = [[one.name, one.kind, one.trigger.hex(), one.exact.pattern.hex() if one.exact else ""] for one in rules]
        self.digest = digest([said, sorted(disabled)])  # of what is looked for, not of the code that checks it


@lru_cache(maxsize=4)
def rules(text: bytes = b"") -> Rules:
    """Return the built-in rules, as a file of rules (its bytes; none: as they are) changes them.

    Raises:
        BadRules: it is no TOML of that form, names a rule or check that isn't there, or an expression is off.
        MissingExtra: hyperscan is not installed.

    """
    try:
        file = msgspec.toml.decode(text, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRules(str(error)[:200], where="rules") from None
    known = {one.name for one in RULES}
    for name in file.disable:
        if name not in known and name not in INNER:
            raise BadRules(f"there is no rule {name[:40]!r} to disable", where="disable")
    own = {one.name: _made(one) for one in file.rule}
    kept = tuple(one for one in RULES if one.name not in own and one.name not in file.disable)
    return Rules(kept + tuple(own.values()), frozenset(file.disable))


def _made(one: _Rule) -> Rule:
    if not _NAME.fullmatch(one.name) or not _NAME.fullmatch(one.kind):
        raise BadRules("a rule's name and kind are lower-case words", where=one.name[:40])
    if one.check not in _CHECKS:
        raise BadRules(f"no check {one.check[:20]!r}; there are: {', '.join(filter(None, _CHECKS))}", where=one.name)
    check = _CHECKS[one.check]

    def read(text: bytes, start: int, end: int) -> Iterator[Finding]:
        if check(text[start:end]):
            yield Finding(start, end, one.kind, one.name)

    expression = (f"(?i){one.expression}" if one.caseless else one.expression).encode()
    return Rule(one.name, one.kind, expression, reader=read, utf8=True)


def file_digest(text: bytes) -> str:
    """Return the SHA-256 of a file of rules."""
    return hashlib.sha256(text).hexdigest()
