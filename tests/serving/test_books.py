"""Budgets that never overshoot, and usage lines that reach the ledger exactly once."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import RecordAltered
from strongroom.serving.books import Books, day_of
from strongroom.serving.roster import LeaseWanted
from strongroom.serving.spool import USED, Summaries, read_batch, used_today
from strongroom.serving.usage import Admitted, Line, Refused, Settled
from tests.access.office import Office

DAY = "2026-11-23"
AT = f"{DAY}T10:00:00.000Z"


@pytest.fixture
def books(office: Office) -> Books:
    return Books(office.records)


def lease(books: Books, budget: str, day: str, amount: int, *, limit: int) -> int:
    wanted = LeaseWanted(budget=budget, day=day, least=amount, amount=amount)
    return books.lease(wanted, limit=limit)


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_lease_is_what_is_left_and_no_more(books: Books) -> None:
    assert lease(books, "acme", DAY, 60, limit=100) == 60
    assert lease(books, "acme", DAY, 60, limit=100) == 40
    assert lease(books, "acme", DAY, 60, limit=100) == 0
    books.give_back("acme", DAY, 30)
    assert books.spent("acme", DAY) == 70
    assert lease(books, "acme", DAY, 60, limit=50) == 0  # the limit was lowered meanwhile


def test_days_and_accounts_are_apart(books: Books) -> None:
    lease(books, "acme", DAY, 100, limit=100)
    assert lease(books, "acme", "2026-11-24", 100, limit=100) == 100
    assert lease(books, "other", DAY, 100, limit=100) == 100


def test_nothing_is_given_back_twice(books: Books) -> None:
    lease(books, "acme", DAY, 10, limit=100)
    books.give_back("acme", DAY, 50)
    assert books.spent("acme", DAY) == 0


def test_many_at_once_lease_the_limit_exactly(office: Office) -> None:
    with ThreadPoolExecutor(8) as pool:
        leased = list(pool.map(lambda _: lease(Books(office.records), "acme", DAY, 7, limit=100), range(40)))
    assert sum(leased) == 100


def test_books_are_brought_in_line_and_old_days_go(books: Books) -> None:
    lease(books, "acme", "2026-11-22", 10, limit=100)
    lease(books, "acme", DAY, 90, limit=100)
    lease(books, "gone", DAY, 90, limit=100)
    books.reconcile(DAY, {"acme": 12})
    assert [books.spent(name, DAY) for name in ("acme", "gone")] == [12, 0]
    assert books.spent("acme", "2026-11-22") == 0


def test_a_day_is_utc() -> None:
    late = dt.datetime(2026, 11, 23, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))
    assert day_of(late) == "2026-11-24"


# ── the spool ────────────────────────────────────────────────────────────────────────────────────────────────────────
def admitted(ident: str, account: str = "acme", reserved: int = 100) -> Admitted:
    return Admitted(id=ident, at=AT, account=account, key="k", route="/v1/completions", model="m:v1", reserved=reserved)


def settled(ident: str, account: str = "acme", prompt: int = 5, answer: int = 20) -> Settled:
    counts = {"prompt_tokens": prompt, "completion_tokens": answer, "marked_tokens": answer // 2}
    return Settled(id=ident, at=AT, account=account, status=200, finish="stop", **counts)


def write(folder: Path, *lines: Line, name: str = "usage-1.jsonl") -> Path:
    file = folder / name
    with file.open("ab") as stream:
        for line in lines:
            stream.write(msgspec.json.encode(line) + b"\n")
    return file


def entries(office: Office) -> list[dict[str, str | int | bool]]:
    return [entry.event.detail for entry in office.log() if entry.event.action == USED]


def test_lines_are_summed_up_by_account(tmp_path: Path, office: Office) -> None:
    refused = Refused(id="r", at=AT, account="acme", status=429, code="rate_limit_exceeded", count=3)
    write(tmp_path, admitted("1"), settled("1"), refused, admitted("2", "zeta"))
    assert Summaries(tmp_path, office.journal, who="process:worker").bring_in() == 1
    [one] = entries(office)
    assert msgspec.json.decode(str(one["accounts"])) == {
        "acme": [1, 3, 5, 20, 10, *[0] * 8],
        "zeta": [1, *[0] * 12],
    }
    assert msgspec.json.decode(str(one["asked"])) == [[who, "k", "/v1/completions", "", 1] for who in ("acme", "zeta")]
    assert msgspec.json.decode(str(one["turned_away"])) == [["acme", "", "", "rate_limit_exceeded", 3]]
    assert (one["lines"], one["from"], one["to"]) == (4, AT, AT)


def test_a_line_counts_once_though_the_worker_is_killed_after_writing(tmp_path: Path, office: Office) -> None:
    write(tmp_path, admitted("1"))
    Summaries(tmp_path, office.journal, who="w").bring_in()
    write(tmp_path, settled("1"))
    fresh = Summaries(tmp_path, office.journal, who="w")  # knows nothing but the ledger
    assert (fresh.bring_in(), fresh.bring_in()) == (1, 0)
    assert [one["lines"] for one in entries(office)] == [1, 1]
    assert entries(office)[1]["start"] == entries(office)[0]["end"]


def test_half_a_line_waits_for_its_end(tmp_path: Path, office: Office) -> None:
    file = write(tmp_path, admitted("1"))
    whole = msgspec.json.encode(settled("1")) + b"\n"
    with file.open("ab") as stream:
        stream.write(whole[:30])
    summaries = Summaries(tmp_path, office.journal, who="w")
    assert summaries.bring_in() == 1
    assert summaries.bring_in() == 0
    with file.open("ab") as stream:
        stream.write(whole[30:])
    assert summaries.bring_in() == 1


def test_many_accounts_take_several_entries(tmp_path: Path, office: Office) -> None:
    write(tmp_path, *(admitted(str(n), f"account-with-a-rather-long-name-{n:06}") for n in range(1000)))
    assert Summaries(tmp_path, office.journal, who="w").bring_in() == 4
    assert sum(int(one["lines"]) for one in entries(office)) == 1000


def test_a_file_that_was_tampered_with_is_said_so_once_and_the_others_go_on(tmp_path: Path, office: Office) -> None:
    file = write(tmp_path, admitted("1"))
    Summaries(tmp_path, office.journal, who="w").bring_in()
    os.truncate(file, 10)
    write(tmp_path, admitted("2"), name="usage-2.jsonl")
    summaries = Summaries(tmp_path, office.journal, who="w")
    assert (summaries.bring_in(), summaries.bring_in()) == (1, 0)
    failed = [entry.event.detail for entry in office.log() if entry.event.outcome == "failed"]
    assert [(one["file"], one["code"]) for one in failed] == [(file.name, "records.altered")]
    file.write_bytes(b"{}\n")
    with pytest.raises(RecordAltered):
        read_batch(file, 0)


def test_a_link_in_the_folder_is_no_spool_file(tmp_path: Path, office: Office) -> None:
    elsewhere = write(tmp_path, admitted("1"), name="other")
    (tmp_path / "usage-0.jsonl").symlink_to(elsewhere)
    assert Summaries(tmp_path, office.journal, who="w").bring_in() == 0


def test_old_files_go_once_they_are_in_the_ledger(tmp_path: Path, office: Office) -> None:
    old = write(tmp_path, admitted("1"), name="usage-20261120T000000.000Z-1.jsonl")
    new = write(tmp_path, admitted("2"), name="usage-20261123T000000.000Z-1.jsonl")
    summaries = Summaries(tmp_path, office.journal, who="w")
    assert summaries.clear("2026-11-22") == 0
    summaries.bring_in()
    assert summaries.clear("2026-11-22") == 1
    assert (old.exists(), new.exists()) == (False, True)


def test_today_counts_what_settled_and_reserves_what_never_did(tmp_path: Path) -> None:
    other = "2026-11-22T23:59:59.000Z"
    yesterday = Admitted(id="0", at=other, account="acme", key="k", route="/", model="m", reserved=999)
    write(tmp_path, yesterday, admitted("1"), settled("1"), admitted("2", reserved=70), admitted("3", "zeta"))
    write(tmp_path, settled("3", "zeta", 1, 2), name="usage-2.jsonl")
    used = used_today(tmp_path, DAY)
    assert {name: used[f"tokens/account/{name}"] for name in ("acme", "zeta")} == {"acme": 25 + 70, "zeta": 3}
    assert used["tokens/key/k"] == used["tokens/total/"] == 25 + 70 + 3
    assert len(used) == 4  # money, embeddings, organisations: nothing was used of these


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_noise_in_a_spool_is_an_error_or_nothing(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    file = tmp_path_factory.mktemp("spool") / "usage-1.jsonl"
    file.write_bytes(noise)
    with contextlib.suppress(RecordAltered):
        read_batch(file, 0)
