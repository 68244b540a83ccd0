"""The words that all rooms share."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import re
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core import copy_errors, errors, privacy_errors, serving_errors
from strongroom.core.canonical import Record, decode, digest, encode
from strongroom.core.clock import SystemClock, parse_stamp, stamp
from strongroom.core.errors import BadInput, BadName, BadSettings, StrongroomError
from strongroom.core.ids import CheckpointName, check_name, new_id
from strongroom.core.log import guard
from strongroom.core.secrets import Secret
from strongroom.core.settings import Settings, parse


class Note(Record, frozen=True):
    text: str
    count: int


def leaves(kind: type[StrongroomError] = StrongroomError) -> list[type[StrongroomError]]:
    below = kind.__subclasses__()
    return [kind] if not below else [leaf for one in below for leaf in leaves(one)]


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_code_is_used_once_and_every_exit_status_is_an_error() -> None:
    codes = [one.code for one in leaves()]
    assert len(codes) == len(set(codes))
    assert all(1 <= one.exit_status <= 9 or one.exit_status == 130 for one in leaves())
    assert all(one.remedy.endswith((".", ")")) or "'" in one.remedy for one in leaves())


def test_the_tree_drawn_at_the_top_is_the_tree() -> None:
    tree = (errors.__doc__ or "").split("\n\nThose of")[0].split("\n\n", 1)[1]
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", tree))
    named = {**vars(errors), **vars(serving_errors), **vars(copy_errors), **vars(privacy_errors)}
    real = {one.__name__ for one in named.values() if isinstance(one, type) and issubclass(one, StrongroomError)}
    assert real <= drawn, real - drawn
    assert drawn <= real, drawn - real


# ── canonical bytes ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_rfc_8785s_own_example() -> None:
    """RFC 8785, section 3.2.4."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    ).encode()
    assert rfc8785.dumps(value) == expected
    assert encode(value) == expected


@given(st.text(), st.integers(-(2**53) + 1, 2**53 - 1))
def test_what_is_written_is_read(text: str, count: int) -> None:
    note = Note(text=text, count=count)
    assert decode(encode(note), Note, where="t") == note


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"count":1}',
        b'{"count":"1","text":"a"}',
        b'{"count":1,"text":"a","more":1}',
        b'{"text":"a","count":1}',
        b'{"count":1, "text":"a"}',
        b'{"count":1,"text":"a"}\n',
        b'{"count":1,"count":1,"text":"a"}',
        b'{"count":1.0,"text":"a"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_any_other_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        decode(data, Note, where="t")


@given(st.binary(max_size=200))
def test_reading_foreign_bytes_raises_nothing_but_bad_input(data: bytes) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(decode(data, Note, where="t"), Note)


def test_an_error_quotes_no_contents() -> None:
    with pytest.raises(BadInput) as caught:
        decode(b'{"count":"hunter2","text":"a"}', Note, where="t")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60, object()])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(BadInput):
        encode(value)


def test_a_digest_is_of_the_meaning() -> None:
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


# ── names, time ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ["a", "SmolLM2-135M", "v1.0_x", "0"])
def test_good_names(name: str) -> None:
    assert check_name(name, what="t") == name
    assert str(CheckpointName.parse(f"{name}:{name}")) == f"{name}:{name}"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\n", "a" * 65, "ä", "a\0"])
def test_bad_names(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name, what="t")
    with pytest.raises(BadName):
        CheckpointName.parse(f"{name}:v1")


@pytest.mark.parametrize("text", ["chat", "chat:", ":v1", "a:b:c", ""])
def test_bad_checkpoint_names(text: str) -> None:
    with pytest.raises(BadName):
        CheckpointName.parse(text)


def test_ids_are_names_and_never_repeat() -> None:
    drawn = {new_id("req") for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(check_name(one, what="t") for one in drawn)


@given(st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(9999, 1, 1)))  # noqa: DTZ001 - the zone is added below
def test_stamps_are_read_back_to_the_millisecond(moment: dt.datetime) -> None:
    aware = moment.replace(tzinfo=dt.UTC)
    assert abs(parse_stamp(stamp(aware)) - aware) < dt.timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23T08:00:00"])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_stamp(text)


def test_the_system_clock_is_aware() -> None:
    assert SystemClock().now().tzinfo is dt.UTC


# ── secrets, logs ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(b"hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} { ({'k': secret}) }"
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert secret == Secret(b"hunter2")
    assert secret != Secret(b"hunter3")
    secret.wipe()
    assert secret.reveal() == b""


@given(st.binary(min_size=16, max_size=64))
def test_no_field_of_a_log_line_lets_a_key_through(key: bytes) -> None:
    import base64

    spelled = [key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode(), repr(key)]
    for text in spelled:
        for field in ("event", "where", "code", "passphrase", "index", "timestamp2"):
            line = json.dumps(guard(None, "info", {field: f"key {text}"}), default=str)
            assert text not in line or len(text) < 25
    assert guard(None, "info", {"seed": key, "who": Secret(key)}) == {"who": "[withheld]"}


def test_plain_words_and_numbers_pass_the_log_guard() -> None:
    line = {"event": "home opened", "code": "access.not_permitted", "index": 3, "where": "chat:v1"}
    assert guard(None, "info", dict(line)) == line


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_empty_file_is_the_defaults() -> None:
    assert parse("", where="t") == Settings()


@pytest.mark.parametrize("text", ["[ledger]\nwitnes = 'x'", "[leger]", "x", "[access]\nsession_minutes = 1.5", "\x00"])
def test_anything_unknown_is_refused(text: str) -> None:
    with pytest.raises(BadSettings):
        parse(text, where="t")


@given(st.text(max_size=200))
def test_settings_raise_nothing_but_bad_settings(text: str) -> None:
    with contextlib.suppress(BadSettings):
        assert isinstance(parse(text, where="t"), Settings)


def test_the_package_is_typed() -> None:
    assert (Path(errors.__file__).parent.parent / "py.typed").exists()
