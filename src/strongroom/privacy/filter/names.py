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

_UPPER: Final = r"(?:[A-Z]|\xc3[\x80-\x9e]|\xc4[\x80-\xbf]|\xc5[\x80-\xbe]|\xce[\x86-\xab]|\xd0[\x80-\xaf])"
_WORD: Final = _UPPER + r"(?:[A-Za-z'\-]|[\xc3-\xd4][\x80-\xbf]|\xe2\x80\x99){1,24}"
_LINK: Final = r"(?:(?:van|von|de|der|den|del|della|di|da|dos|du|la|le|el|al|bin|ibn|zu|af|av|ter|ten) ){0,2}"
_MORE: Final = r"(?:[ \xa0]" + _LINK + r"(?:" + _WORD + r"|" + _UPPER + r"\.))"
_NAME: Final = r"(?:" + _WORD + r"|" + _UPPER + r"\.)" + _MORE + r"{0,3}"
_FULL: Final = _WORD + _MORE + r"{1,3}"
_IDEOGRAPH: Final = r"[\xe3-\xed][\x80-\xbf][\x80-\xbf]"
_EASTERN: Final = r"(?:" + _IDEOGRAPH + r"){2,4}(?: ?(?:" + _IDEOGRAPH + r"){1,3})?"
_ANY: Final = r"(?:" + _NAME + r"|" + _EASTERN + r")"


def _bytes(text: str) -> str:
    """Return an alternation of words, its letters as the bytes of UTF-8."""
    return r"(?:" + "|".join(text.encode().decode("latin-1").split(",")) + r")"


_TITLES: Final = _bytes(
    r"Mr,Mrs,Ms,Miss,Mx,Dr,Prof,Professor,Herr,Herrn,Frau,Fr,Hr,Mme,Mlle,Monsieur,Madame,Sr,Sra,Srta,Señor,Señora,"
    r"Don,Doña,Sig,Sig\.ra,Signor,Signora,Dott,Dott\.ssa,Dhr,Mevr,Mevrouw,Pan,pan,Pani,pani,Dipl\.-Ing,Ing,Rev,Hon,Capt,Sgt,"
    r"Sir,Lady,Judge,Senator,Shri,Smt"
)
_LABELS: Final = _bytes(
    r"[Nn]ame,NAME,[Ff]ull [Nn]ame,[Ff]irst [Nn]ame,[Ll]ast [Nn]ame,[Ss]urname,[Cc]ustomer,[Pp]atient,[Cc]lient,"
    r"[Ee]mployee,[Aa]pplicant,[Cc]ontact(?: person)?,[Aa]uthors?,[Ss]igned-off-by,[Rr]eviewed-by,[Aa]cked-by,"
    r"[Cc]o-authored-by,[Rr]eported-by,[Tt]ested-by,From,To,Cc,CC,Nom,Nombre,Nome,Naam,Namn,Nimi,Vorname,"
    r"Imię i nazwisko,Nachname,Attn,c/o,[Rr]ecipient,[Ss]ender,[Mm]aintainer,[Pp]assenger,"
    r"[Tt]enant,[Ww]itness,[Cc]ardholder"
)
_GREETINGS: Final = _bytes(
    r"Dear,Hi,Hello,Hey,Hallo,Liebe,Lieber,Cher,Chère,Bonjour,Estimado,Estimada,Hola,Caro,Cara,Gentile,Ciao,Beste,"
    r"Geachte,Olá,Hej,Kära"
)
_CLOSINGS: Final = _bytes(
    r"[Rr]egards,[Ss]incerely,[Cc]heers,Yours(?: truly| faithfully)?,Grüßen,Gruß,Cordialement,Saludos,Atentamente,"
    r"Saluti,[Gg]roet(?:en)?,Pozdrawiam,Atenciosamente,hälsningar,Best wishes,Thanks"
)
_VERBS: Final = _bytes(
    r"[Mm]y name is,I am called,name's,[Ii]ch heiße,[Mm]ein Name ist,[Jj]e m'appelle,[Mm]e llamo,[Mm]i chiamo,"
    r"[Mm]eu nome é,born to,married to,wife,husband,spouse,named after"
)
_EASTERN_LABELS: Final = _bytes("姓名,氏名,名前")
_COLON: Final = r"(?: ?:|\xef\xbc\x9a)"
NAME_TRIGGER: Final = "|".join(
    (
        r"\b" + _TITLES + r"\.? [A-Z\xc3-\xd4]",
        r"\b" + _LABELS + r"[\"']?" + _COLON,
        r"\b" + _GREETINGS + r" [A-Z\xc3-\xed]",
        _CLOSINGS + r",?\s",
        _VERBS + r"[, ]",
        _EASTERN_LABELS,
    )
).encode("latin-1")
_LABELLED: Final = r"(?:" + _FULL + r"|" + _EASTERN + r")"
_ENDED: Final = r"(?=[\s,;<(\"'.|/]|\Z|[\xe3\xef])"
_TITLED: Final = r"(?:" + _TITLES + r"\.? )*(?P<v>"
_READ: Final = tuple(
    re.compile(one.encode("latin-1"))
    for one in (
        r"\b" + _TITLES + r"\.? " + _TITLED + _NAME + r")",
        r"(?<![\w\-])"
        + _LABELS
        + r"[\"']?"
        + _COLON
        + r"[ \t]*[\"']?"
        + _TITLED
        + r"(?:"
        + _FULL
        + r"|"
        + _EASTERN
        + r"))"
        + _ENDED,
        r"\b" + _GREETINGS + r" " + _TITLED + _ANY + r")(?=[,!:\n]| and )",
        _CLOSINGS + r",?[ \t]*\r?\n(?:[ \t]*\r?\n)?[ \t\-]*(?P<v>" + _ANY + r")(?=[ \t]*(?:\n|\r|\Z))",
        _VERBS + r",? (?P<v>" + _ANY + r")",
        _EASTERN_LABELS + r"[ \xe3\x80:=\xef\xbc\x9a]{0,3}(?P<v>" + _EASTERN + r")",
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
_ROADS: Final = (
    r"(?:Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|"
    r"Boulevard|Blvd\.?|Lane|Ln\.?|Drive|Dr\.?|Court|Ct\.?|Square|Terrace|Parkway|Way|Close|Crescent)"
)
_NORTHERN: Final = _bytes("straße,strasse,str\\.,weg,platz,allee,gasse,straat,laan,gatan,vägen,gade,katu")
_FRENCH: Final = r"[0-9]{1,4}(?: bis| ter)?,? " + _bytes("rue,avenue,boulevard,place,chemin,impasse,allée,quai") + r" "
_PROPER: Final = r"[A-Z\xc3][\w\x80-\xff'\-]{1,30}"
_STREET: Final = re.compile(
    "|".join(
        (
            r"(?<![\w./\-])[0-9]{1,5}[A-Za-z]?,? (?:[NSEW]\.? )?(?:[A-Z][A-Za-z'\-]{1,20} ){1,3}"
            + _ROADS
            + r"(?![A-Za-z])"
            r"(?:,? (?:Apt\.?|Suite|Unit|Flat) ?[0-9A-Z]{1,6})?"
            r"(?:(?:,|\n| /)? ?[A-Z][A-Za-z' ]{1,30},? [A-Z]{2} [0-9]{5}(?:-[0-9]{4})?)?",
            r"(?:[A-Z]|\xc3[\x80-\x9e])(?:[a-z]|\xc3[\x80-\xbf]|-[A-Z]){2,30}"
            + _NORTHERN
            + r" [0-9]{1,4}[a-z]?(?![\w])"
            r"(?:,? ?\n?[0-9]{5} (?:[A-Z]|\xc3[\x80-\x9e])[\w\x80-\xff]{2,30})?",
            _FRENCH + r"(?:(?:de|du|des|la|le|l') ?){0,2}" + _PROPER + r"(?: " + _PROPER + r"){0,2}",
        )
    ).encode("latin-1")
)
STREET_TRIGGER: Final = "|".join(
    (
        r"[0-9],? (?:[A-Z][A-Za-z'.\-]* ){1,4}" + _ROADS,
        _NORTHERN + r" [0-9]",
        _FRENCH,
    )
).encode("latin-1")


def read_names(text: bytes, start: int, end: int) -> Iterator[Finding]:
    """Yield the names about a cue that stands from `start` to `end`."""
    high = min(len(text), end + _AHEAD)
    for pattern in _READ:
        for match in pattern.finditer(text, start, high):
            if match.start() > end:
                break  # another cue's
            first, last = match.span("v")
            if not _NONE.intersection(re.split(rb"[ \xa0]", match["v"])):
                yield Finding(first, last, "name", "name")


def read_streets(text: bytes, start: int, end: int) -> Iterator[Finding]:
    """Yield the addresses about what looks like a street."""
    for match in _STREET.finditer(text, max(0, start - _BACK), min(len(text), end + _AHEAD)):
        yield Finding(match.start(), match.end(), "address", "address")
