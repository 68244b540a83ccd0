"""What was used, as ledger and spool tell it together; and how far the weights are exposed."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import encode
from strongroom.ledger.journal import Act
from strongroom.serving.egress import Rules, bits_of, exposure
from strongroom.serving.history import history
from strongroom.serving.spool import USED, Summaries, Tally
from strongroom.serving.usage import Settled
from tests.access.office import Office
from tests.serving.test_books import AT, DAY, admitted, settled, write

RULES = Rules(weight_bytes=10**9, token_bits=18, days=365, rank=0.5, hidden_size=64)


def look(office: Office, folder: Path, since: str = "") -> tuple[dict[str, list[int]], int]:
    found = history(office.journal.ledger.find(action=USED), folder, day=DAY, since=since)
    return {name: one.row()[:5] for name, one in found.accounts.items()}, sum(found.asked.values())


def test_a_line_counts_once_in_the_ledger_or_in_the_spool(tmp_path: Path, office: Office) -> None:
    write(tmp_path, admitted("1"), settled("1"))
    assert look(office, tmp_path) == ({"acme": [1, 0, 5, 20, 10]}, 1)
    Summaries(tmp_path, office.journal, who="w").bring_in()
    assert look(office, tmp_path) == ({"acme": [1, 0, 5, 20, 10]}, 1)
    write(tmp_path, admitted("2", "zeta"))
    assert look(office, tmp_path) == ({"acme": [1, 0, 5, 20, 10], "zeta": [1, 0, 0, 0, 0]}, 2)
    assert look(office, tmp_path, since="2026-11-24") == ({}, 0)


def test_summaries_from_before_there_were_more_numbers_are_read(tmp_path: Path, office: Office) -> None:
    rows = encode({"acme": [3, 1, 20, 30, 30]}).decode()
    detail: dict[str, str | int | bool] = {"file": "usage-0.jsonl", "start": 0, "end": 9, "to": AT, "accounts": rows}
    office.journal.record(Act("w", USED, "serving"), "done", detail=detail)
    assert look(office, tmp_path) == ({"acme": [3, 1, 20, 30, 30]}, 0)


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.integers(0, 64))
def test_days_are_the_weights_over_the_bits_a_day(tokens: int, logprobs: int, rank: int) -> None:
    today = Tally(completion_tokens=tokens, logprobs=logprobs, rank=rank)
    shown = exposure(today, today, RULES)
    assert shown.bits_today == bits_of(today, 18) == 18 * tokens + 32 * logprobs
    assert shown.days == 8 * 10**9 / shown.bits_today
    assert shown.alarm == (shown.days < 365 or rank > 32)


def test_what_is_not_known_raises_no_alarm() -> None:
    today = Tally(completion_tokens=10**12, rank=10**6)
    blind = msgspec.structs.replace(RULES, weight_bytes=0, hidden_size=0)
    assert exposure(today, today, blind).days is None
    assert not exposure(today, today, blind).alarm
    assert not exposure(Tally(), Tally(), RULES).alarm


def test_lines_from_before_there_were_bytes_are_read() -> None:
    old = b'{"type":"Settled","id":"1","at":"x","account":"a","status":200,"finish":"stop",'
    old += b'"prompt_tokens":1,"completion_tokens":2}'
    line = msgspec.json.decode(old, type=Settled)
    assert (line.bytes, line.logprobs, line.money, line.texts, line.rank) == (0, 0, 0, 0, 0)
    assert msgspec.json.encode(line) == old
