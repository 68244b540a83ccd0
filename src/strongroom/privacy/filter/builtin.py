"""The rules that Strongroom brings: a line each. docs/privacy.md says what each finds and misses.

A rule's `trigger` is an expression for hyperscan, over bytes: cheap, and firing wherever the thing may be. Where it
fires, `exact` says where the thing begins and ends (Python's `re`, within a few hundred bytes: no text makes it slow),
and `check` whether it is one. What takes more than an expression has a reader of its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.privacy.filter.checksums import base58check, bech32, iban_end
from strongroom.privacy.filter.findings import SECRET, Finding
from strongroom.privacy.filter.identities import chilean, finnish, italian, mexican, spanish, taiwanese
from strongroom.privacy.filter.names import NAME_TRIGGER, STREET_TRIGGER, read_names, read_streets
from strongroom.privacy.filter.numbers import TRIGGER as NUMBER_TRIGGER
from strongroom.privacy.filter.numbers import read_numbers
from strongroom.privacy.filter.tokens import credentials, jwt, opaque, random_token

Reader = Callable[[bytes, int, int], Iterator[Finding]]


def _always(_value: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """Where to look (`trigger`), what is there (`exact`, its group ``v`` if it has one) and whether it is (`check`)."""

    name: str
    kind: str
    trigger: bytes
    exact: re.Pattern[bytes] | None = None
    check: Callable[[bytes], bool] = _always
    around: int = 0  # bytes that the thing may reach beyond the trigger's, on either side
    reader: Reader | None = None  # in place of `exact`
    utf8: bool = False  # the trigger is of characters, not bytes

    def read(self, text: bytes, start: int, end: int, *, after: int = 0) -> Iterator[Finding]:
        """Yield what is where the trigger fired, from byte `start` of `text` to `end`; before `after` all is known."""
        if self.reader is not None:
            yield from self.reader(text, start, end)
        elif self.exact is not None:
            group = "v" if "v" in self.exact.groupindex else 0
            low, high = max(after, start - self.around), min(len(text), end + self.around)
            for match in self.exact.finditer(text, low, high):
                if match.start() > end:
                    return  # another trigger's, as those that end before this one
                if match.end() > start and self.check(match[group]):
                    yield Finding(*match.span(group), self.kind, self.name)


_LETTER: Final = rb"(?:[A-Za-z0-9]|[\xc3-\xd4][\x80-\xbf])"
_LABEL: Final = _LETTER + rb"(?:(?:[A-Za-z0-9\-]|[\xc3-\xd4][\x80-\xbf]){0,61}" + _LETTER + rb")?"
_DOMAIN: Final = (
    rb"(?:"
    + _LABEL
    + rb"\.)+(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9\-]{2,59}|(?:[\xc3-\xd4][\x80-\xbf]){2,12})(?![A-Za-z0-9])"
)
_EMAIL: Final = (
    rb"(?<![A-Za-z0-9._%+\-])(?!git@)"
    + _LETTER
    + rb"(?:[A-Za-z0-9._%+'\-]|[\xc3-\xd4][\x80-\xbf]){0,63}@(?!example\.invalid)"
    + _DOMAIN
)
_SPELT: Final = (
    rb"(?i)(?<![\w.])[a-z0-9][a-z0-9._+\-]{0,40} ?[\[({<] ?at ?[\])}>] ?[a-z0-9\-]+"
    rb"(?:(?:\.| ?[\[({<] ?dot ?[\])}>] ?)[a-z0-9\-]+){0,3}(?:\.| ?[\[({<] ?dot ?[\])}>] ?)[a-z]{2,12}\b"
)
_BIRTH: Final = (
    rb"born|birth|dob\b|d\.o\.b|geb\.|geboren|geburt|naissance|n\xc3\xa9e? le|nacid[oa]|nacimiento|nascita|nat[oa] il|"
    rb"nascid[oa]|nascimento|urodz|f\xc3\xb6dd|f\xc3\xb8dt|syntym|do\xc4\x9fum|"
    rb"\xe5\x87\xba\xe7\x94\x9f|\xe7\x94\x9f\xe5\xb9\xb4\xe6\x9c\x88\xe6\x97\xa5|\xec\x83\x9d\xeb\x85\x84|\xd1\x80\xd0\xbe\xd0\xb6\xd0\xb4"
)  # the last: Chinese, Japanese, Korean, Russian
_DATE: Final = (
    rb"[0-9]{4}(?:[-/. ]|\xe5\xb9\xb4)[0-9]{1,2}(?:[-/. ]|\xe6\x9c\x88)[0-9]{1,2}(?![0-9])"
    rb"|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:[0-9]{4}|[0-9]{2})(?![0-9])"
    rb"|[0-9]{1,2}(?:st|nd|rd|th|\.)? (?:of |de )?[A-Za-z\xc3\x80-\xbf]{3,10}\.?,? (?:de )?[0-9]{4}(?![0-9])"
    rb"|[A-Z][a-z]{2,8}\.? [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}(?![0-9])"
)


def _ibans(text: bytes, start: int, end: int) -> Iterator[Finding]:
    for match in _IBAN.finditer(text, max(0, start - 1), min(len(text), end + 64)):
        letters = match[0].decode().translate({ord(" "): None, ord("-"): None, 0xA0: None}).upper()
        size = iban_end(letters)
        if size:
            stop, left = match.start(), size
            while left:
                left -= text[stop] not in b" -\xc2\xa0"
                stop += 1
            if not text[stop : stop + 1].isalnum():
                yield Finding(match.start(), stop, "iban", "iban")


_IBAN: Final = re.compile(rb"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:(?:[ \-]|\xc2\xa0)?[A-Za-z0-9]){11,30}")
_V4: Final = re.compile(
    rb"(?<![\w.\-])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?![\w\-]|\.[0-9])"
)
_V6: Final = re.compile(rb"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_MULTICAST: Final = 224
_VERSION: Final = re.compile(rb"(?i)(?:version|release|ver\.?|\bv|[a-z]-|section|chapter|\xc2\xa7|oid) ?\Z")
_ADDRESSED: Final = re.compile(rb"(?i)\b(?:ip|host|addr\w*|server|ping|inet|dns|client|login|from|to|peer|gateway)\b")


def _v4(text: bytes, start: int, end: int) -> Iterator[Finding]:
    for match in _V4.finditer(text, max(0, start - 2), min(len(text), end + 3)):
        before = text[max(0, match.start() - 24) : match.start()]
        parts = [int(one) for one in match[0].split(b".")]
        small = parts[0] < 10 or max(parts) < 30  # noqa: PLR2004 - as versions, sections and object identifiers are
        if (
            parts[0] < _MULTICAST
            and _global(match[0])
            and not _VERSION.search(before)
            and (not small or _ADDRESSED.search(before))
        ):
            yield Finding(*match.span(), "ip", "ipv4")


def _global(value: bytes) -> bool:
    try:
        address = ipaddress.ip_address(value.decode())
    except ValueError:
        return False
    return address.is_global


def _v6(value: bytes) -> bool:
    return sum(bool(one) for one in value.split(b":")) >= 3 and _global(value)  # noqa: PLR2004


def _id(name: str, trigger: bytes, check: Callable[[str], bool] | None = None) -> Rule:
    exact = re.compile(rb"(?<![A-Za-z0-9_])(?:" + trigger + rb")(?![A-Za-z0-9_])")

    def valid(value: bytes) -> bool:
        return check is None or check(value.decode())

    return Rule(name, "national_id", rb"\b(?:" + trigger + rb")\b", exact, check=valid, around=1)


def _token(name: str, trigger: bytes, more: bytes = b"") -> Rule:
    """Return the rule of a maker's tokens: the least that they have, and what may follow."""
    exact = re.compile(rb"(?<![A-Za-z0-9])(?:" + trigger + rb")" + more)
    return Rule(name, SECRET, trigger, exact, check=random_token, around=320)


_NAMED: Final = (
    rb"pass(?:word|wd|phrase)|pwd|secret|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|client[_-]?secret|"
    rb"auth[_-]?token|access[_-]?token|account[_-]?key|encryption[_-]?key|signing[_-]?key|credentials?|kennwort|passwort|"
    rb"contrase\xc3\xb1a|mot de passe|senha|wachtwoord"
)
_ASSIGNED: Final = re.compile(
    rb"(?i)(?:"
    + _NAMED
    + rb")[\w\-]{0,20}[\"']?\]?[ \t]{0,3}(?:=>|:=|==?|:|is)[ \t]{0,3}(?:[\"'`](?P<q>[^\"'`\s]{8,200})[\"'`]"
    rb"|(?P<u>[^\s\"'`,;]{8,200}))"
)


def _assigned(text: bytes, start: int, end: int) -> Iterator[Finding]:
    for match in _ASSIGNED.finditer(text, max(0, start - 40), min(len(text), end + 260)):
        first, last = match.span("q" if match["q"] else "u")
        value = match["q"] or match["u"].rstrip(b").:}]>|")
        if opaque(value):
            yield Finding(first, min(last, first + len(value)), SECRET, "assigned-secret")


def _private_key(text: bytes, start: int, end: int) -> Iterator[Finding]:
    far = min(len(text), end + _LONGEST_KEY)
    stop = text.find(b"-----END", end, far)
    close = text.find(b"-----", stop + 8, stop + 60) if stop >= 0 else -1
    blank = text.find(b"\n\n", end, far)
    last = close + 5 if close >= 0 else (blank if blank >= 0 else far)
    if last - end > 64:  # noqa: PLR2004 - a heading in a manual has no key behind it
        yield Finding(start, last, SECRET, "private-key")


_LONGEST_KEY: Final = 20_000  # bytes
_B64: Final = rb"[A-Za-z0-9_\-]"
RULES: Final = (
    Rule("email", "email", rb"[A-Za-z0-9._%+'\-\x80-\xff]@[A-Za-z0-9\x80-\xff]", re.compile(_EMAIL), around=320),
    Rule("email-spelt", "email", rb"(?i)[a-z0-9] ?[\[({<] ?at ?[\])}>] ?[a-z0-9]", re.compile(_SPELT), around=160),
    Rule("number", "phone", NUMBER_TRIGGER, reader=read_numbers),
    Rule("iban", "iban", rb"\b[A-Z]{2}[0-9]{2}(?:(?:[ \-]|\xc2\xa0)?[A-Z0-9]{4}){2}", reader=_ibans),
    Rule("ipv4", "ip", rb"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]", reader=_v4),
    Rule("ipv6", "ip", rb"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{1,30}:[0-9A-Fa-f]", _V6, check=_v6, around=8),
    Rule("mac", "mac", rb"\b(?:[0-9A-Fa-f]{2}[:\-]){5}[0-9A-Fa-f]{2}\b",
         re.compile(rb"(?<![\w:\-])[0-9A-Fa-f]{2}([:\-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:\-])"),
         check=lambda value: len(set(value)) > 4, around=1),  # noqa: PLR2004
    Rule("date-of-birth", "date_of_birth", rb"(?i)(?:" + _BIRTH + rb")",
         re.compile(rb"(?i:" + _BIRTH + rb")[^\n0-9]{0,24}?(?P<v>" + _DATE + rb")"), around=64),
    _id("gb-nino", rb"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-DFMPT]"),
    _id("es-dni", rb"[XYZ]-?[0-9]{7}-?[A-Z]|[0-9]{8}[- ]?[A-Z]|[0-9]{2}(?:\.[0-9]{3}){2}-?[A-Z]", spanish),
    _id("it-codice-fiscale", rb"[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]", italian),
    _id("fi-hetu", rb"[0-3][0-9][01][0-9][0-9]{2}[-+A-FYXWVU][0-9]{3}[0-9A-FHJ-NPR-Y]", finnish),
    _id("tw-id", rb"[A-Z][12][0-9]{8}", taiwanese),
    _id("mx-curp", rb"[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[0-9A-Z][0-9]", mexican),
    _id("cl-rut", rb"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9Kk]", chilean),
    Rule("bitcoin", "wallet", rb"\b[13][1-9A-HJ-NP-Za-km-z]{25,34}\b",
         re.compile(rb"(?<!\w)[13][1-9A-HJ-NP-Za-km-z]{25,34}(?!\w)"), check=base58check, around=1),
    Rule("bitcoin-segwit", "wallet", rb"\b(?:bc1|BC1)[0-9A-Za-z]{39,59}\b",
         re.compile(rb"(?<!\w)(?:bc1[0-9a-z]{39,59}|BC1[0-9A-Z]{39,59})(?!\w)"), check=bech32, around=1),
    Rule("ethereum", "wallet", rb"\b0x[0-9a-fA-F]{40}\b", re.compile(rb"(?<!\w)0x[0-9a-fA-F]{40}(?!\w)"),
         check=lambda value: len(set(value)) > 8, around=1),  # noqa: PLR2004
    Rule("private-key", SECRET, rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----", reader=_private_key),
    Rule("connection-string", SECRET, rb"[a-z0-9+]://[^\s/@:\"'<>]{1,60}:[^\s/@\"'<>]{3,100}@[A-Za-z0-9\[]",
         re.compile(rb"[a-z][a-z0-9+]{1,20}://(?P<v>[^\s/@:\"'<>${]{0,60}:[^\s/@\"'<>${]{3,100})@[A-Za-z0-9\[]"),
         check=credentials, around=24),
    Rule("assigned-secret", SECRET, rb"(?i)(?:" + _NAMED + rb")[a-z0-9_\-]{0,20}[\"']?\]?[ \t]{0,3}(?:=|:|is )",
         reader=_assigned),
    Rule("bearer", SECRET, rb"[Bb]earer [A-Za-z0-9_\-.=+/]{20}",
         re.compile(rb"[Bb]earer (?P<v>[A-Za-z0-9_\-.=+/]{20,600})"), check=opaque, around=600),
    Rule("jwt", SECRET, rb"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{4}",
         re.compile(rb"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_\-]{8,2000}\.eyJ[A-Za-z0-9_\-]{4,4000}(?:\.[A-Za-z0-9_\-]{0,2000})?"),
         check=jwt, around=4000),
    _token("aws-key-id", rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    _token("github", rb"(?:gh[pousr]_[A-Za-z0-9]|github_pat_[A-Za-z0-9_])[A-Za-z0-9_]{35}", rb"[A-Za-z0-9_]{0,220}"),
    _token("gitlab", rb"gl(?:pat|dt|rt|ptt|ft|soat|cbt|agent)-" + _B64 + rb"{20}", _B64 + rb"{0,44}"),
    _token("slack", rb"xox[abeoprs]-[A-Za-z0-9\-]{10}|xapp-[0-9]-[A-Za-z0-9\-]{8}", rb"[A-Za-z0-9\-]{0,250}"),
    _token("slack-hook", rb"hooks\.slack\.com/services/T[A-Za-z0-9_]{6}", rb"[A-Za-z0-9_]{0,8}/B\w{6,14}/\w{20,30}"),
    _token("google", rb"AIza" + _B64 + rb"{35}|ya29\." + _B64 + rb"{30}|GOCSPX-" + _B64 + rb"{28}", _B64 + rb"{0,300}"),
    _token("stripe", rb"(?:[srp]k_(?:live|test)_|whsec_)[A-Za-z0-9]{16}", rb"[A-Za-z0-9]{0,240}"),
    _token("openai", rb"sk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]{1,8}-)?" + _B64 + rb"{20}", _B64 + rb"{0,200}"),
    _token("hugging-face", rb"(?:hf_|api_org_)[A-Za-z]{30}", rb"[A-Za-z]{0,10}"),
    _token("npm", rb"npm_[A-Za-z0-9]{36}"),
    _token("pypi", rb"pypi-AgE" + _B64 + rb"{20}", _B64 + rb"{20,300}"),
    _token("sendgrid", rb"SG\." + _B64 + rb"{16}", _B64 + rb"{0,16}\." + _B64 + rb"{32,64}"),
    _token("twilio", rb"(?:SK|AC)[0-9a-f]{32}"),
    _token("telegram", rb"[0-9]{8,10}:AA" + _B64 + rb"{33}"),
    _token("digitalocean", rb"do[opr]_v1_[a-f0-9]{64}"),
    _token("shopify", rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _token("azure", rb"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40}", rb"[A-Za-z0-9+/]{0,60}={0,2}"),
    Rule("name", "name", NAME_TRIGGER, reader=read_names),
    Rule("address", "address", STREET_TRIGGER, reader=read_streets),
)  # fmt: skip
