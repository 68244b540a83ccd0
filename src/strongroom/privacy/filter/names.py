"""Names of people, and where they live: a small recogniser, run only where a cue stands.

It knows forms of address ("Mrs", "Herr"), words that names follow ("Name:", "Dear", "Signed-off-by:") and streets, and
takes the capitalised words there. It knows no names: a name without any cue is missed. Text that only looks like a
name behind a cue ("Dear Sir or Madam") is left by a list of words that are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from strongroom.privacy.filter.findings import Finding

_UPPER: Final = rb"(?:[A-Z]|\xc3[\x80-\x9e]|\xc4[\x80-\xbf]|\xc5[\x80-\xbe]|\xce[\x86-\xab]|\xd0[\x80-\xaf])"
_LETTER: Final = rb"(?:[A-Za-z'\-]|[\xc3-\xd4][\x80-\xbf]|\xe2\x80\x99)"
_WORD: Final = _UPPER + _LETTER + rb"{1,24}"
_LINK: Final = rb"(?:van|von|de|der|den|del|della|di|da|dos|du|la|le|el|al|bin|ibn|zu|af|av|ter|ten)"
_NAME: Final = (
    rb"(?:" + _WORD + rb"|" + _UPPER + rb"\.)(?:[ \xa0](?:" + _LINK + rb"[ ]){0,2}(?:" + _WORD + rb"|" + _UPPER + rb"\.)){0,3}"
)
_FULL: Final = (
    rb"(?:" + _WORD + rb")(?:[ \xa0](?:" + _LINK + rb"[ ]){0,2}(?:" + _WORD + rb"|" + _UPPER + rb"\.)){1,3}"
)
_EASTERN: Final = rb"(?:\xe3[\x80-\xbf][\x80-\xbf]|[\xe4-\xed][\x80-\xbf][\x80-\xbf]){2,4}(?: ?(?:[\xe4-\xed][\x80-\xbf][\x80-\xbf]){1,3})?"
_TITLES: Final = (
    rb"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Herr|Herrn|Frau|Fr|Hr|Mme|Mlle|Monsieur|Madame|Sr|Sra|Srta|Se\xc3\xb1or|"
    rb"Se\xc3\xb1ora|Don|Do\xc3\xb1a|Sig|Sig\.ra|Signor|Signora|Dott|Dott\.ssa|Dhr|Mevr|Mevrouw|Pan|pan|Pani|pani|Sen|"
    rb"Dipl\.-Ing|Ing|Rev|Hon|Capt|Sgt|Sir|Lady|Judge|Senator|Shri|Smt)"
)
_LABELS: Final = (
    rb"(?:[Nn]ame|NAME|[Ff]ull [Nn]ame|[Ff]irst [Nn]ame|[Ll]ast [Nn]ame|[Ss]urname|[Cc]ustomer|[Pp]atient|[Cc]lient|"
    rb"[Ee]mployee|[Aa]pplicant|[Cc]ontact(?: person)?|[Aa]uthors?|[Ss]igned-off-by|[Rr]eviewed-by|[Aa]cked-by|[Cc]o-authored-by|"
    rb"[Rr]eported-by|[Tt]ested-by|From|To|Cc|CC|Nom|Nombre|Nome|Naam|Namn|Nimi|Imi\xc4\x99 i nazwisko|"
    rb"Vorname|Nachname|Attn|c/o|[Rr]ecipient|[Ss]ender|[Mm]aintainer|[Pp]assenger|[Tt]enant|[Ww]itness|[Cc]ardholder)"
)
_GREETINGS: Final = rb"(?:Dear|Hi|Hello|Hey|Hallo|Liebe|Lieber|Cher|Ch\xc3\xa8re|Bonjour|Estimado|Estimada|Hola|Caro|Cara|Gentile|Ciao|Beste|Geachte|Ol\xc3\xa1|Hej|K\xc3\xa4ra)"
_CLOSINGS: Final = (
    rb"(?:[Rr]egards|[Ss]incerely|[Cc]heers|Yours(?: truly| faithfully)?|Gr\xc3\xbc\xc3\x9fen|Gru\xc3\x9f|Cordialement|"
    rb"Saludos|Atentamente|Saluti|[Gg]roet(?:en)?|Pozdrawiam|Atenciosamente|h\xc3\xa4lsningar|Best wishes|Thanks)"
)
_VERBS: Final = rb"(?:[Mm]y name is|I am called|name's|[Ii]ch hei\xc3\x9fe|[Mm]ein Name ist|[Jj]e m'appelle|[Mm]e llamo|[Mm]i chiamo|[Mm]eu nome \xc3\xa9|born to|married to|wife|husband|spouse|named after)"
NAME_TRIGGER: Final = (
    rb"\b" + _TITLES + rb"\.? [A-Z\xc3-\xd4]"
    rb"|\b" + _LABELS + rb"[\"']?(?: ?[:=]|\xef\xbc\x9a)"
    rb"|\b" + _GREETINGS + rb" [A-Z\xc3-\xd4]"
    rb"|" + _CLOSINGS + rb",?\s"
    rb"|" + _VERBS + rb"[, ]"
    rb"|\xe5\xa7\x93\xe5\x90\x8d|\xe6\xb0\x8f\xe5\x90\x8d|\xe5\x90\x8d\xe5\x89\x8d"  # 姓名 氏名 名前
    rb"|(?:\xe5\x85\x88\xe7\x94\x9f|\xe5\xa5\xb3\xe5\xa3\xab)"  # 先生 女士
)
_READ: Final = tuple(
    re.compile(one)
    for one in (
        rb"\b" + _TITLES + rb"\.? (?:" + _TITLES + rb"\.? )*(?P<v>" + _NAME + rb")",
        rb"\b" + _LABELS + rb"[\"']?(?: ?[:=]|\xef\xbc\x9a)[ \t]*[\"']?(?:" + _TITLES + rb"\.? )*(?P<v>" + _FULL + rb")(?=[\s,;<(\"'.|/]|\Z|\xe3|\xef)",
        rb"\b" + _GREETINGS + rb" (?:" + _TITLES + rb"\.? )*(?P<v>" + _NAME + rb")(?=[,!:\n]| and )",
        rb"" + _CLOSINGS + rb",?[ \t]*\r?\n(?:[ \t]*\r?\n)?[ \t\-]*(?P<v>" + _NAME + rb")(?=[ \t]*(?:\n|\r|\Z))",
        rb"" + _VERBS + rb",? (?P<v>" + _NAME + rb")",
        rb"(?:\xe5\xa7\x93\xe5\x90\x8d|\xe6\xb0\x8f\xe5\x90\x8d|\xe5\x90\x8d\xe5\x89\x8d)[ \xe3\x80:=\xef\xbc\x9a]{0,3}(?P<v>" + _EASTERN + rb")",
    )
)
_NONE: Final = frozenset(
    b"Sir Madam All Everyone Team Friends Customer Colleague Colleagues Support Help Hiring Manager The This That These"
    b" There Here And Or But If For In On At To From With Of None True False Null Unknown Anonymous Various See Note"
    b" User Admin Root Windows Linux Google Microsoft Apple Python Java Debian Ubuntu Free Software Foundation Inc"
    b" Corporation Ltd University License Public General World Project Group Committee Damen Herren Readers Reader"
    b" Who What When List String Class Type Name File Object Not Add Use Set Get New Ellipsis Any Optional".split()
)
_BACK: Final = 48
_AHEAD: Final = 120
_STREET: Final = re.compile(
    rb"(?<![\w./\-])[0-9]{1,5}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[A-Z][A-Za-z'\-]{1,20} ){1,3}"
    rb"(?:Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|Boulevard|Blvd\.?|Lane|Ln\.?|Drive|Dr\.?|Court|Ct\.?|Square|Terrace|Parkway|Way|Close|Crescent)(?![A-Za-z])"
    rb"(?:,? (?:Apt\.?|Suite|Unit|Flat) ?[0-9A-Z]{1,6})?(?:(?:,|\n| /)? ?[A-Z][A-Za-z' ]{1,30},? [A-Z]{2} [0-9]{5}(?:-[0-9]{4})?)?"
    rb"|(?:[A-Z]|\xc3[\x80-\x9e])(?:[a-z]|\xc3[\x80-\xbf]|-[A-Z]){2,30}(?:stra\xc3\x9fe|strasse|str\.|weg|platz|allee|gasse|straat|laan|gatan|v\xc3\xa4gen|gade|katu) [0-9]{1,4}[a-z]?(?![\w])"
    rb"(?:,? ?\n?[0-9]{5} (?:[A-Z]|\xc3[\x80-\x9e])[\w\x80-\xff]{2,30})?"
    rb"|[0-9]{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|impasse|all\xc3\xa9e|quai) (?:(?:de|du|des|la|le|l') ?){0,2}[A-Z\xc3][\w\x80-\xff'\-]{1,30}(?: [A-Z\xc3][\w\x80-\xff'\-]{1,30}){0,2}"
)
STREET_TRIGGER: Final = (
    rb"[0-9],? (?:[A-Z][A-Za-z'.\-]* ){1,4}(?:St|Ave|R(?:oa)?d|Boulevard|Blvd|Lane|Ln|Dr|Court|Ct|Square|Terrace|Parkway|Way|Close|Cres)"
    rb"|(?:stra\xc3\x9fe|strasse|str\.|weg|platz|allee|gasse|straat|laan|gatan|v\xc3\xa4gen|gade|katu) [0-9]"
    rb"|[0-9],? (?:bis |ter )?(?:rue|avenue|boulevard|place|chemin|impasse|all\xc3\xa9e|quai) "
)


def read_names(text: bytes, start: int, end: int) -> Iterator[Finding]:
    """Yield the names about a cue that stands from `start` to `end`."""
    low, high = max(0, start - _BACK), min(len(text), end + _AHEAD)
    for pattern in _READ:
        for match in pattern.finditer(text, low, high):
            first, last = match.span("v")
            if match.start() <= end and match[0] and not _NONE.intersection(re.split(rb"[ \xa0]", match["v"])):
                yield Finding(first, last, "name", "name")


def read_streets(text: bytes, start: int, end: int) -> Iterator[Finding]:
    """Yield the addresses about what looks like a street."""
    for match in _STREET.finditer(text, max(0, start - _BACK), min(len(text), end + _AHEAD)):
        yield Finding(match.start(), match.end(), "address", "address")
