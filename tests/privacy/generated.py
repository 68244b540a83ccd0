"""Texts with personal data and secrets set in them, and where: made by Faker, in real technical prose.

Faker's providers were written by others, country by country; so were the texts. The sentences around the values are
ours: some say what comes ("Tel."), some don't, and figures are told apart by that.
"""

from __future__ import annotations

import random  # noqa: TID251 - not keys: which value stands where
import string
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from faker import Faker

LOCALES = [
    "en_US",
    "en_GB",
    "de_DE",
    "fr_FR",
    "es_ES",
    "it_IT",
    "nl_NL",
    "pl_PL",
    "pt_BR",
    "sv_SE",
    "ja_JP",
    "zh_CN",
    "en_IN",
    "da_DK",
    "fi_FI",
    "no_NO",
    "cs_CZ",
    "ko_KR",
    "tr_TR",
    "ru_RU",
    "en_CA",
    "en_AU",
    "pt_PT",
    "de_AT",
    "de_CH",
    "hu_HU",
    "ro_RO",
    "el_GR",
    "he_IL",
    "uk_UA",
    "zh_TW",
    "hr_HR",
    "bg_BG",
]
_PHONE = dict(
    one.split(":")
    for one in [
        "de:Telefon",
        "fr:Tél.",
        "es:Teléfono",
        "it:Telefono",
        "nl:Telefoon",
        "pl:telefon",
        "pt:Telefone",
        "sv:Telefon",
        "ja:電話",
        "zh:电话",
        "da:Telefon",
        "fi:puhelin",
        "no:Telefon",
        "cs:telefon",
        "ko:전화",
        "tr:Telefon",
        "ru:тел.",
        "hu:telefon",
        "ro:telefon",
        "el:τηλ.",
        "he:טלפון",
        "uk:тел.",
        "hr:telefon",
        "bg:тел.",
    ]
)
_ID = dict(
    one.split(":")
    for one in [
        "de:Sozialversicherungsnummer",
        "fr:numéro de sécurité sociale",
        "es:DNI",
        "it:codice fiscale",
        "nl:BSN",
        "pl:PESEL",
        "pt:CPF",
        "sv:personnummer",
        "ja:マイナンバー",
        "zh:身份证",
        "da:CPR",
        "fi:henkilötunnus",
        "no:fødselsnummer",
        "ko:주민등록번호",
        "tr:TC kimlik",
        "ru:ИНН",
        "ro:CNP",
        "el:AMKA",
        "hr:OIB",
        "bg:ЕГН",
    ]
)
_TOLD = {
    "email": ("Email: {}", "Write to {} for help.", "contact <{}>", "mailto:{}"),
    "phone": ("{phone}: {}", "Call {} before noon.", "You can reach her at {} on weekdays.", "fax {}"),
    "card": ("card number {}", "Visa {}", "paid with {} today", "CC: {}"),
    "iban": ("IBAN: {}", "transfer to {} please", "account {}", "{}"),
    "national_id": ("{id}: {}", "national id {}", "SSN {}", "ID number: {}"),
    "ip": ("from {} at noon", "host {} is down", "ip={}", "[{}]"),
    "secret": ("{}",),
    "name": (
        "Dear {},\n",
        "Name: {}\n",
        "Author: {} <x>",
        "Signed-off-by: {} <y>",
        "my name is {}, and",
        "Regards,\n{}\n",
    ),
}
_BARE = ("see {} in the table", "| {} | yes |", "({})", '"{}", ')
_ASSIGNED = (
    'password = "{}"',
    "DB_PASSWORD={}",
    "  password: {}",
    '"client_secret": "{}",',
    "export API_KEY='{}'",
    "pwd={}",
)


@dataclass(frozen=True)
class Planted:
    kind: str
    locale: str
    told: bool
    start: int  # bytes
    end: int


@dataclass(frozen=True)
class Text:
    raw: bytes
    planted: tuple[Planted, ...]


def passages(root: Path) -> list[str]:
    """Return paragraphs of the project's documentation."""
    return [
        one for page in sorted(root.rglob("*.md")) for one in page.read_text().split("\n\n") if 80 < len(one) < 1200
    ]


def _email(fake: Faker, chance: random.Random) -> str:
    return chance.choice((fake.free_email, fake.company_email, fake.ascii_company_email, fake.email))()


def _phone(fake: Faker, _chance: random.Random) -> str:
    return fake.phone_number()


def _card(fake: Faker, chance: random.Random) -> str:
    number = fake.credit_card_number()
    if len(number) == 16 and chance.random() < 0.6:
        gap = chance.choice(" -")
        return gap.join(number[at : at + 4] for at in range(0, 16, 4))
    return number


def _iban(fake: Faker, chance: random.Random) -> str:
    number = fake.iban()
    return " ".join(number[at : at + 4] for at in range(0, len(number), 4)) if chance.random() < 0.5 else number


def _national_id(fake: Faker, chance: random.Random) -> str:
    names = [
        one for one in ("ssn", "nif", "nie", "cpf", "pesel", "aadhaar_id", "personal_number") if hasattr(fake, one)
    ]
    return str(getattr(fake, chance.choice(names))())


def _ip(fake: Faker, chance: random.Random) -> str:
    return fake.ipv4_public() if chance.random() < 0.7 else fake.ipv6()


def _letters(chance: random.Random, alphabet: str, count: int) -> str:
    return "".join(chance.choice(alphabet) for _ in range(count))


def _secret(fake: Faker, chance: random.Random) -> str:
    mixed = string.ascii_letters + string.digits
    tokens = (
        "AKIA" + _letters(chance, string.ascii_uppercase + "234567", 16),
        "ghp_" + _letters(chance, mixed, 36),
        "glpat-" + _letters(chance, mixed + "_-", 20),
        "xoxb-" + _letters(chance, string.digits, 12) + "-" + _letters(chance, mixed, 24),
        "AIza" + _letters(chance, mixed + "_-", 35),
        "sk_live_" + _letters(chance, mixed, 24),
        "sk-proj-" + _letters(chance, mixed, 48),
        "hf_" + _letters(chance, string.ascii_letters, 34),
        "npm_" + _letters(chance, mixed, 36),
    )
    if chance.random() < 0.5:
        return chance.choice(tokens)
    special = chance.random() < 0.5
    return "\0" + fake.password(length=chance.randint(10, 24), special_chars=special)


MAKERS: dict[str, Callable[[Faker, random.Random], str]] = {
    "email": _email,
    "phone": _phone,
    "card": _card,
    "iban": _iban,
    "national_id": _national_id,
    "ip": _ip,
    "secret": _secret,
}


_LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pl", "pt", "sv", "da", "fi", "cs", "ru", "zh", "ja")
NAMED = [one for one in LOCALES if one.startswith(_LANGUAGES)]
"""Locales whose names are measured."""


def _name(fake: Faker, _chance: random.Random) -> str:
    return fake.name()


def texts(paragraphs: list[str], *, seed: int, each: int, kinds: tuple[str, ...] = tuple(MAKERS)) -> Iterator[Text]:
    """Yield for every locale and kind `each` texts with one value set in."""
    chance = random.Random(seed)  # noqa: S311 - as above
    for locale in LOCALES:
        fake = Faker(locale)
        fake.seed_instance(seed)
        for kind in kinds:
            for _ in range(each):
                yield _text(chance.choice(paragraphs), kind, locale, fake, chance)


def _text(paragraph: str, kind: str, locale: str, fake: Faker, chance: random.Random) -> Text:
    value = (_name if kind == "name" else MAKERS[kind])(fake, chance)
    told = kind == "secret" or chance.random() < 0.7
    frame = chance.choice(_TOLD[kind] if told else _BARE)
    if value.startswith("\0"):
        value, frame = value[1:], chance.choice(_ASSIGNED)
    short = locale.split("_", maxsplit=1)[0]
    before, _, after = (
        frame.replace("{phone}", _PHONE.get(short, "Phone")).replace("{id}", _ID.get(short, "ID")).partition("{}")
    )
    cut = paragraph.find(" ", chance.randrange(len(paragraph))) + 1
    head = f"{paragraph[:cut]}\n{before}".encode()
    raw = head + f"{value}{after}\n{paragraph[cut:]}".encode()
    planted = Planted(kind, locale, told, len(head), len(head) + len(value.encode()))
    return Text(raw, (planted,))


def tally(
    given: list[Text], found: dict[int, list], *, cover: float = 0.8
) -> tuple[Counter, Counter, Counter, Counter]:
    """Return, by (kind, locale, told), how many were planted and how many found; and findings right and wrong by kind.

    Found is what a finding of whatever kind covers to the share `cover`; right, what touches a planted value.
    """
    planted, hit, right, wrong = Counter(), Counter(), Counter(), Counter()
    for number, text in enumerate(given):
        findings = found.get(number, [])
        for one in text.planted:
            key = (one.kind, one.locale, one.told)
            planted[key] += 1
            covered = sum(max(0, min(each.end, one.end) - max(each.start, one.start)) for each in findings)
            hit[key] += covered >= cover * (one.end - one.start)
        for each in findings:
            touches = any(each.start < one.end and one.start < each.end for one in text.planted)
            (right if touches else wrong)[each.kind] += 1
    return planted, hit, right, wrong
