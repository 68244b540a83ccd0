"""Telephone numbers of any country: by their form where that is enough, else by what stands before them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# ITU-T E.164 country codes
_COUNTRY: Final = re.compile(
    r"1|7|2(?:0|7|[1-689]\d)|3(?:[0-469]|[578]\d)|4(?:[013-9]|2\d)|5(?:[1-8]|[09]\d)|6(?:[0-6]|[789]\d)"
    r"|8(?:[1246]|[0578]\d)|9(?:[0-58]|[679]\d)"
)
_DATE: Final = re.compile(
    r"(?:19|20)\d\d([-./ ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?:\D.*)?"
    r"|(?:0?[1-9]|[12]\d|3[01])([-./ ])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d(?:\D.*)?"
)
_LEAST, _MOST = 6, 15  # digits
_YEARS: Final = re.compile(r"(?:(?:19|20)\d\d\D{1,3})+(?:19|20)\d\d")
_COUNTING: Final = "01234567890123456789", "98765432109876543210"


@dataclass(frozen=True, slots=True)
class Written:
    """How a number is written."""

    text: str  # as it stands, from a plus or parenthesis to its last digit
    groups: tuple[str, ...]  # its digits
    gaps: tuple[str, ...]  # what stands between them


def phone(number: Written, *, cue: bool, east: bool) -> bool:
    """Say whether this is a telephone number. `cue`: "tel" or the like is before it; `east`: Chinese text is."""
    digits = "".join(number.groups)
    if not _LEAST <= len(digits) <= _MOST + 2 or len(set(digits)) < 3 or _no_phone(number, digits):
        return False
    if cue:
        return _like_one(number)
    return (
        _international(number, digits)
        or _north_american(number)
        or _trunk(number, digits)
        or _hyphened(number)
        or (east and re.fullmatch(r"1[3-9]\d{9}", number.text) is not None)
    )


def _no_phone(number: Written, digits: str) -> bool:
    """Dates, digits in their order, and American postal codes (ZIP+4) are none."""
    zip_code = number.text == "-".join(number.groups) and [len(one) for one in number.groups] == [5, 4]
    spread = len(number.groups[-1]) == 1 or any("  " in gap or ".." in gap or "//" in gap for gap in number.gaps)
    return zip_code or spread or any(digits in one for one in _COUNTING) or _DATE.fullmatch(number.text) is not None


def _like_one(number: Written) -> bool:
    """Behind a cue anything counts but decimals, lists, years and addresses of machines."""
    dotted = len(number.gaps) > 2 and set(number.gaps) == {"."} and len(number.groups[0]) > 2
    return len(number.groups) <= 7 and not dotted and not _YEARS.fullmatch(number.text)


def _international(number: Written, digits: str) -> bool:
    if number.text.lstrip("(").startswith("+"):
        return 8 <= len(digits) <= _MOST and _COUNTRY.match(digits) is not None
    if digits.startswith("00") and digits[2] != "0":
        return 11 <= len(digits) <= _MOST + 2 and _COUNTRY.match(digits, 2) is not None and bool(number.gaps)
    country = re.match(r"\((\d{2,3})\) ", number.text)  # "(351) 912 345 678"
    return country is not None and 10 <= len(digits) <= 13 and _COUNTRY.fullmatch(country[1]) is not None


def _north_american(number: Written) -> bool:
    groups, gaps = number.groups, number.gaps
    if len(groups) == 4 and groups[0] in {"1", "001"}:
        groups, gaps = groups[1:], gaps[1:]
    if [len(one) for one in groups] != [3, 3, 4]:
        return False
    if "(" in number.text or set(gaps) == {"-"}:
        return True
    return len(set(gaps)) == 1 and groups[0][0] > "1" and groups[1][0] > "1"


def _trunk(number: Written, digits: str) -> bool:
    """A number as it is dialled within a country: 0 and an area, or an area in parentheses."""
    bracketed = number.text.startswith("(") and ")" in number.gaps[0] if number.gaps else False
    if not (bracketed or digits[0] == "0") or digits[:2] == "00" or not 9 <= len(digits) <= 12 + bracketed:
        return False
    if digits.count("0") * 2 > len(digits):
        return False
    if not number.gaps:
        return len(digits) in {10, 11}
    dotted = any("." in gap for gap in number.gaps)
    sizes = [len(one) for one in number.groups]
    return bracketed or (2 <= sizes[0] <= 6 and min(sizes) >= 2 and (not dotted or sizes == [2] * 5))


def _hyphened(number: Written) -> bool:
    """As in Korea, Japan and Israel: 2 or 3 digits, 3 or 4, 4; in Brazil, in Russia."""
    sizes = [len(one) for one in number.groups]
    if sizes in ([2, 4, 4], [2, 5, 4]) and number.gaps == (" ", "-"):
        return True
    if sizes == [1, 3, 3, 2, 2] and number.groups[0] == "8":
        return True
    return set(number.gaps) == {"-"} and len(sizes) == 3 and sizes[0] in {2, 3} and sizes[1] in {3, 4} and sizes[2] == 4
