"""Check digits and lengths: what tells a number of a card, an account or a person from any other number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

# ISO 13616: how long the account numbers of each country are (SWIFT's registry, release 99)
_IBANS: Final[Mapping[str, int]] = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE BI",
        "18": "DK FI FK FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BJ BF CI CM DJ DZ FR GR IT MC MR SM SN",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}
# ISO/IEC 7812: issuers' ranges, by the first four digits, and how many digits their cards have
_CARDS: Final = (
    (4000, 4999, {13, 16, 19}),  # Visa
    (3400, 3499, {15}),  # American Express
    (3700, 3799, {15}),
    (5100, 5599, {16}),  # Mastercard
    (2221, 2720, {16}),
    (2200, 2204, {16}),  # Mir
    (3000, 3059, {14, 16, 19}),  # Diners Club
    (3600, 3699, {14, 16, 19}),
    (3800, 3999, {14, 16, 19}),
    (3500, 3599, {16, 19}),  # JCB
    (1800, 1800, {15}),
    (2131, 2131, {15}),
    (6000, 6099, {16, 17, 18, 19}),  # Discover, RuPay
    (6200, 6299, {16, 17, 18, 19}),  # UnionPay
    (8100, 8199, {16, 17, 18, 19}),
    (6400, 6599, {16, 17, 18, 19}),
    (5000, 5099, set(range(12, 20))),  # Maestro
    (5600, 5999, set(range(12, 20))),
    (604, 604, set(range(12, 20))),
    (6100, 6199, set(range(12, 20))),
    (6300, 6399, set(range(12, 20))),
    (6600, 6999, set(range(12, 20))),
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_BASE58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VERHOEFF_P: Final = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)
_VERHOEFF_D: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip


def luhn(digits: str) -> bool:
    """Say whether the last digit is Luhn's (ISO/IEC 7812-1)."""
    plain, doubled = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, plain)) + sum(_DOUBLED[int(one)] for one in doubled)) % 10 == 0


def card(digits: str) -> bool:
    """Say whether this is a payment card's number: an issuer's range with its length, and Luhn's digit."""
    return _issued(digits) and luhn(digits) and len(set(digits)) > 1


def _issued(digits: str) -> bool:
    prefix = int(digits[:4])
    return any(low <= prefix <= high and len(digits) in sizes for low, high, sizes in _CARDS)


def iban_end(letters: str) -> int:
    """Return how many of these letters and digits make an account's number (ISO 13616), or 0."""
    size = _IBANS.get(letters[:2], 0)
    if not size or len(letters) < size:
        return 0
    moved = letters[4:size] + letters[:4]
    try:
        return size if int("".join(str(int(one, 36)) for one in moved)) % 97 == 1 else 0
    except ValueError:
        return 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Return the sum of the digits times their weights; the shorter of the two ends it."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def verhoeff(digits: str) -> bool:
    """Say whether the last digit is Verhoeff's."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_VERHOEFF_D[state][int(_VERHOEFF_P[place % 8][int(digit)])])
    return state == 0


def mod11_10(digits: str) -> bool:
    """Say whether the last digit is that of ISO 7064 mod 11,10."""
    rest = 10
    for digit in digits[:-1]:
        rest = ((rest + int(digit)) % 10 or 10) * 2 % 11
    return (11 - rest) % 10 == int(digits[-1])


def base58check(text: bytes) -> bool:
    """Say whether this is a Bitcoin address of 25 bytes in base 58 with its check sum."""
    number = 0
    for letter in text:
        number = number * 58 + _BASE58.find(letter)
    try:
        raw = number.to_bytes(25, "big")
    except OverflowError:
        return False
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def bech32(text: bytes) -> bool:
    """Say whether this is a Bitcoin address with a check sum of BIP 173 or BIP 350."""
    prefix, _, rest = text.lower().partition(b"1")
    values = [one >> 5 for one in prefix] + [0] + [one & 31 for one in prefix] + [_BECH32.find(one) for one in rest]
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= generator if top >> place & 1 else 0
    return min(values) >= 0 and state in {1, 0x2BC830A3}
