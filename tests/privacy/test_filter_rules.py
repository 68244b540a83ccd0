"""The rules: on values that Faker makes for 33 countries, on real text, and one by one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.privacy_errors import BadRules
from strongroom.privacy.filter.builtin import RULES
from strongroom.privacy.filter.findings import Finding, resolve
from strongroom.privacy.filter.numbers import read_numbers
from strongroom.privacy.filter.rules import rules
from tests.privacy.generated import passages, tally, texts

DOCS = Path(__file__).parents[2] / "docs"


def found(text: str, file: bytes = b"") -> list[tuple[str, str]]:
    raw = text.encode()
    return [(one.kind, raw[one.start : one.end].decode()) for one in rules(file).scanner.find([raw]).get(0, [])]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("mail bob@web.de now", "email", "bob@web.de"),
        ("邮箱foo@bar.com。", "email", "foo@bar.com"),
        ("anna [at] web [dot] de", "email", "anna [at] web [dot] de"),
        ("call +1-545-880-7302x157 now", "phone", "+1-545-880-7302x157"),
        ("Tél. : 01 46 86 56 90.", "phone", "01 46 86 56 90"),
        ("Tél. : 01\u00a046\u00a086\u00a056\u00a090.", "phone", "01\u00a046\u00a086\u00a056\u00a090"),
        ("(028) 9018 0458", "phone", "(028) 9018 0458"),
        ("paid with 4111 1111 1111 1111 today", "card", "4111 1111 1111 1111"),
        ("DE89 3704 0044 0532 0130 00 thanks", "iban", "DE89 3704 0044 0532 0130 00"),
        ("GB82WEST12345698765432", "iban", "GB82WEST12345698765432"),
        ("SSN 778-40-5955", "national_id", "778-40-5955"),
        ("756.5479.3102.63", "national_id", "756.5479.3102.63"),
        ("born 1990-01-02 in Bonn", "date_of_birth", "1990-01-02"),
        ("from 93.184.216.34 at noon", "ip", "93.184.216.34"),
        ("2606:2800:220:1:248:1893:25c8:1946", "ip", "2606:2800:220:1:248:1893:25c8:1946"),
        ("password = 'hunter2Xy!9'", "secret", "hunter2Xy!9"),
        ("postgres://app:k7Vw93hdPq@db.local/x", "secret", "app:k7Vw93hdPq@db.local"),
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "wallet", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "wallet", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
        ("Dear Mrs Jane Smith, thank you", "name", "Jane Smith"),
        ("she lives at 12 Rose Street.", "address", "12 Rose Street"),
    ],
)
def test_a_rule_finds_its_thing_whole(text: str, kind: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4 of 2023-10-11, 12:30:45",
        "pi is 3.14159265358979, e 2.718281828459045",
        "OBJECT IDENTIFIER 2.5.29.35, section 8.2.4.45",
        "4111 1111 1111 1112 fails Luhn's check",
        "DE88 3704 0044 0532 0130 00 fails too",
        "std::vector<int>::iterator, dead::beef",
        "ISBN 978-3-16-148410-0",
        "password = get_password(user)",
        "token = self._session.token",
        "api_key = os.environ['KEY_NAME']",
        "password: ${DB_PASSWORD}",
        "Dear Sir or Madam,",
        "0123456789abcdef 0123456789 9876543210",
        "127.0.0.1 192.168.1.10 10.0.0.1 255.255.255.0",
        "Boston, MA 02110-1301, USA, 2006-2012",
        "@property\ndef x(self): pass",
        "-----BEGIN PRIVATE KEY----- is the first line",
    ],
)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert found(text) == []


def test_a_private_key_is_found_to_its_last_line() -> None:
    key = (
        "-----BEGIN RSA PRIVATE KEY-----\n"
        + "\n".join(["MIIEow" + "Ab9/" * 14] * 5)
        + "\n-----END RSA PRIVATE KEY-----"
    )
    assert found(f"x\n{key}\ny") == [("secret", key)]


@pytest.fixture(scope="module")
def figures() -> tuple:
    given_ = list(texts(passages(DOCS), seed=7, each=10))
    return tally(given_, dict(rules().scanner.find([one.raw for one in given_])))


def test_structured_kinds_are_found_in_texts_of_33_countries(figures: tuple) -> None:
    """The floors are below what is measured (docs/privacy.md): 0.97 and 1.00, all kinds and countries together."""
    planted, hit, right, wrong = figures
    assert sum(hit.values()) / sum(planted.values()) >= 0.95
    assert sum(right.values()) / (sum(right.values()) + sum(wrong.values())) >= 0.97


@pytest.mark.parametrize(
    ("kind", "floor"),
    [
        ("email", 0.98),
        ("phone", 0.98),
        ("card", 0.96),
        ("iban", 0.9),
        ("national_id", 0.95),
        ("ip", 0.97),
        ("secret", 0.95),
    ],
)
def test_each_kind_behind_a_word_that_tells_it(figures: tuple, kind: str, floor: float) -> None:
    """IBAN: two locales of Faker make accounts of a length that no bank has; these are not found."""
    planted, hit, *_ = figures
    keys = [key for key in planted if key[0] == kind and key[2]]
    assert sum(hit[key] for key in keys) / sum(planted[key] for key in keys) >= floor


def test_bulk_finds_what_each_text_alone_does() -> None:
    given_ = [one.raw for one in texts(passages(DOCS), seed=3, each=1)]
    scanner = rules().scanner
    together = scanner.find(given_)
    assert {n: found_ for n, one in enumerate(given_) if (found_ := scanner.find([one]).get(0))} == dict(together)


def test_a_rule_of_a_file_that_crosses_texts_finds_what_it_would_in_each() -> None:
    file = b"[[rule]]\nname='x'\nkind='x'\nexpression='A[^Z]*B'\n"
    scanner = rules(file).scanner
    given_ = [b"xx A", b"A in B", b"B", b"AB"]
    assert {n: [(o.start, o.end) for o in v] for n, v in scanner.find(given_).items()} == {1: [(0, 6)], 3: [(0, 2)]}


@given(st.lists(st.text(alphabet="aé電0123456789@.-+ :\n()xAB", max_size=60), max_size=6))
@settings(max_examples=150, deadline=None)
def test_findings_lie_in_their_text_apart_and_on_whole_characters(parts: list[str]) -> None:
    given_ = [one.encode() for one in parts]
    scanner = rules().scanner
    together = scanner.find(given_)
    for number, raw in enumerate(given_):
        mine = together.get(number, [])
        assert mine == scanner.find([raw]).get(0, [])
        at = 0
        for one in mine:
            assert at <= one.start < one.end <= len(raw)
            raw[one.start : one.end].decode()
            raw[at : one.start].decode()
            at = one.end


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 10), st.sampled_from(["email", "secret", "name"])), max_size=9
    )
)
def test_resolved_findings_cover_all_that_was_found(spans: list[tuple[int, int, str]]) -> None:
    raw = [Finding(start, start + size, kind, kind) for start, size, kind in spans]
    out = resolve(raw)
    assert {at for one in raw for at in range(one.start, one.end)} == {
        at for one in out for at in range(one.start, one.end)
    }
    assert all(one.end <= other.start for one, other in pairwise(out))


def test_a_file_adds_changes_and_disables_rules() -> None:
    file = b"""
disable = ["phone", "name"]
[[rule]]
name = "employee"
kind = "employee"
expression = 'EMP-[0-9]{6}'
[[rule]]
name = "email"
kind = "mail"
expression = '[a-z]+@corp'
caseless = true
"""
    text = "EMP-123456 X@Corp bob@web.de +1-545-880-7302 Dear Mrs Smith, SSN 778-40-5955 Größe"
    assert found(text, file) == [("employee", "EMP-123456"), ("mail", "X@Corp"), ("national_id", "778-40-5955")]


@pytest.mark.parametrize(
    ("file", "where"),
    [
        (b"[[rule]]\nname='bad'\nkind='k'\nexpression='(['\n", "bad"),
        (b"[[rule]]\nname='bad'\nkind='k'\nexpression='(?<=a)b'\n", "bad"),
        (b"[[rule]]\nname='bad'\nkind='k'\nexpression='a*'\n", "bad"),
        (b"[[rule]]\nname='bad'\nkind='k'\nexpression='a'\ncheck='nope'\n", "bad"),
        (b"[[rule]]\nname='Bad Name'\nkind='k'\nexpression='a'\n", "Bad Name"),
        (b"disable=['nope']", "disable"),
        (b"nonsense = 1", "rules"),
        (b"\xff", "rules"),
    ],
)
def test_bad_rules_are_named(file: bytes, where: str) -> None:
    with pytest.raises(BadRules) as caught:
        rules(file)
    assert caught.value.where == where


def test_real_text_without_anybody_in_it_raises_few_alarms() -> None:
    """Python's own sources: nobody's telephone number, card, account or identity is in them; examples of tests are."""
    folder = Path("/usr/lib/python3.11")
    if not folder.is_dir():
        pytest.skip("no system Python whose sources could be read")
    given_ = [one.read_bytes() for one in sorted(folder.glob("*.py"))]
    given_ = [one for one in given_ if len(one) < 400_000]
    alarms = [one for each in rules().scanner.find(given_).values() for one in each]
    size = sum(map(len, given_)) / 1e6
    counted = {kind: sum(one.kind == kind for one in alarms) for kind in ("phone", "card", "iban", "national_id", "ip")}
    assert sum(counted.values()) / size < 3


def test_findings_end_with_whole_characters() -> None:
    for text in (
        "12 rue Xa" + "é" * 20,
        "-----BEGIN PRIVATE KEY-----" + "aé€" * 9000,
        "Langestraße 1, 12345 Aa" + "é" * 30,
    ):
        raw = text.encode()
        found = rules().scanner.find([raw])[0]
        assert found
        for one in found:
            assert raw[one.start : one.end].decode()
            assert raw[one.end :].decode() is not None


def test_values_in_a_row_are_each_read_once() -> None:
    rule = next(one for one in RULES if one.name == "email")
    raw = b"a@b.cd " * 200
    after, found = 0, 0
    for at in range(0, len(raw), 7):
        for one in rule.read(raw, at, at + 3, after=after):
            after, found = one.end, found + 1
    assert found == 200
    assert len(list(rule.read(raw, 700, 703))) == 1
    assert len(rules().scanner.find([raw])[0]) == 200


def test_a_long_line_of_numbers_is_read_by_bounded_stretches() -> None:
    raw = b"12345678 " * 3000
    assert len(list(read_numbers(raw + b"+1-545-880-7302", 0, 8))) == 0
    at = 9 * 3000
    assert [one.kind for one in read_numbers(raw + b"+1-545-880-7302", at + 1, at + 15)] == ["phone"]
