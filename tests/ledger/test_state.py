"""The state index: what latest, find and claims rest on."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.access import approvals, roll
from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import AlreadyClaimed
from strongroom.core.ids import new_id
from strongroom.custody import copies, housekeys, recipients, registry
from strongroom.ledger.events import STATE_ACTIONS, Event
from strongroom.ledger.keys import LogKey, create_log_key, load_log_key
from strongroom.ledger.log import Ledger
from strongroom.lineage import bases
from strongroom.serving import accounts
from strongroom.watermark import register

Make = Callable[..., Event]
SOURCE = Path(registry.__file__).parents[1]


def reopened(folder: Path, state: Path | None = None) -> Ledger:
    return Ledger(SqliteLog(folder / "log.db"), load_log_key(folder / "log.key"), state)


# ── which acts carry state ───────────────────────────────────────────────────────────────────────────────────────────
def test_the_rooms_state_actions_are_in_the_index() -> None:
    rooms = {roll.FOUNDED, roll.CERTIFIED, roll.ADOPTED, approvals.REQUESTED, registry.SEALED}
    rooms |= {
        housekeys.MADE,
        copies.ISSUED,
        recipients.RECIPIENTS.entered,
        recipients.COPIES.entered,
        accounts.SERVING.entered,
        accounts.ACCEPTED,
        register.GIVEN_OUT,
        bases.ADDED,
    }
    assert rooms == STATE_ACTIONS


# What is only shown: a store that hides some of it hides it from a report, and an audit of the log still finds it.
SHOWN = {"serving.usage", "serving.alarm"}


def lookups() -> Iterator[tuple[str, str]]:
    """Yield (file, action) of every ``ledger.latest(ACTION, …)`` and ``ledger.find(action=ACTION, …)`` in the rooms."""
    for file in sorted(SOURCE.rglob("*.py")):
        if SOURCE / "ledger" in file.parents:
            continue
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and re.search(r"\bledger\.(latest|find)$", ast.unparse(call.func)):
                for given_action in [*call.args[:1], *(one.value for one in call.keywords if one.arg == "action")]:
                    yield str(file.relative_to(SOURCE)), ast.unparse(given_action)
            elif isinstance(call, ast.Call) and ast.unparse(call.func) == "Series" and call.args:
                yield str(file.relative_to(SOURCE)), ast.unparse(call.args[0])  # what deeds look up


def test_every_lookup_of_an_action_outside_the_ledger_is_of_a_state_action() -> None:
    found = list(lookups())
    assert len(found) > 5
    for file, action in found:
        if action == "self._series.entered":  # of a Series, which is in the list by itself
            continue
        module = importlib.import_module("strongroom." + file.removesuffix(".py").replace("/", "."))
        value = getattr(module, action) if action.isidentifier() else ast.literal_eval(action)
        assert value in STATE_ACTIONS or (value in SHOWN and file in {"cli/serving_usage.py", "wiring/exposure.py"}), (
            file
        )


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
ACTIONS = ("custody.sealed", "access.certificate", "custody.open")
OBJECTS = ("o1", "o2")
CLAIMS = (None, None, "c1", "c2", "c3")
ACTS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(OBJECTS), st.sampled_from(CLAIMS)), max_size=24)


def agrees(log: Ledger) -> None:
    """Compare every answer with a plain scan."""
    every = list(log.follow(0, timeout=0))
    for action in ACTIONS:
        for thing in OBJECTS:
            fitting = [one for one in every if (one.event.action, one.event.object) == (action, thing)]
            assert list(log.find(action=action, object=thing)) == fitting
            assert log.latest(action, thing) == (fitting[-1] if fitting else None)
            for claim in CLAIMS[2:]:
                claiming = [one for one in fitting if one.event.claim == claim]
                assert list(log.find(action=action, object=thing, claim=claim)) == claiming
        assert list(log.find(action=action)) == [one for one in every if one.event.action == action]
    for claim in CLAIMS[2:]:
        assert list(log.find(claim=claim)) == [one for one in every if one.event.claim == claim]


@settings(max_examples=25)
@given(acts=ACTS, split=st.integers(0, 24))
def test_the_index_says_what_a_plain_scan_says(acts: list[tuple[str, str, str | None]], split: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = create_log_key(folder / "log.key", "strongroom.local/t")
        log = Ledger.create(SqliteLog(folder / "log.db"), key)
        other = reopened(folder)
        used: set[str] = set()
        for turn, (action, thing, claim) in enumerate(acts):
            writer = log if turn < split else other
            made = Event(
                id=new_id("evt"),
                at="t",
                who="w",
                action=action,
                object=thing,
                host="h",
                why="",
                outcome="done",
                claim=claim,
            )
            if claim in used:
                with pytest.raises(AlreadyClaimed):
                    writer.append(made)
            else:
                writer.append(made)
            used |= {claim} if claim else set()
            if turn == split:
                agrees(log)
        fresh = reopened(folder)
        for one in (log, other, fresh):
            agrees(one)
            one.verify()
            one.close()


def test_what_another_process_appends_is_seen(tmp_path: Path, ledger: Ledger, make_event: Make) -> None:
    other = reopened(tmp_path / "ledger")
    assert ledger.latest("custody.sealed", "o") is None
    for turn in range(5):
        (other if turn % 2 else ledger).append(make_event(action="custody.sealed", object="o", claim=f"v{turn}"))
        for log in (ledger, other):
            newest = log.latest("custody.sealed", "o")
            assert newest is not None
            assert newest.index == turn
            with pytest.raises(AlreadyClaimed):
                log.append(make_event(claim=f"v{turn}"))
    other.close()


def test_only_new_entries_are_read(ledger: Ledger, make_event: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(50):
        ledger.append(make_event())
    ledger.latest("custody.sealed", "o")
    read: list[int] = []
    original = ledger._store.rows
    monkeypatch.setattr(ledger._store, "rows", lambda query: read.append(query.start) or original(query))
    ledger.latest("custody.sealed", "o")
    assert read == []
    ledger.append(make_event(action="custody.sealed", object="o"))
    assert ledger.latest("custody.sealed", "o") is not None
    assert read == [50, 50]  # what is new, and the entry itself


def test_the_same_claim_again_is_the_same_entry(tmp_path: Path, ledger: Ledger, make_event: Make) -> None:
    event = make_event(claim="request:1")
    assert ledger.append(event).index == reopened(tmp_path / "ledger").append(event).index == 0


def test_sixty_four_threads_one_claim(ledger: Ledger, make_event: Make) -> None:
    won: list[int] = []
    lost: list[AlreadyClaimed] = []

    def redeem() -> None:
        try:
            won.append(ledger.append(make_event(claim="request:1")).index)
        except AlreadyClaimed as error:
            lost.append(error)
        ledger.append(make_event(action="custody.sealed", object="o"))
        assert ledger.latest("custody.sealed", "o") is not None
        assert [one.index for one in ledger.find(claim="request:1")] == won

    threads = [threading.Thread(target=redeem) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 63)
    assert ledger.verify().size == 65


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def home(tmp_path: Path, key: LogKey, make_event: Make) -> Path:
    """A log of 300 entries whose index is kept in `state`."""
    folder = tmp_path / "ledger"
    log = Ledger.create(SqliteLog(folder / "log.db"), key, folder / "state")
    for turn in range(300):
        log.append(make_event(action="custody.sealed", object=f"o{turn % 7}", claim=f"c{turn}"))
    log.latest("custody.sealed", "o1")
    log.close()
    assert (folder / "state").stat().st_mode & 0o777 == 0o600
    return folder


def first_read(home: Path) -> int:
    """Return the index from which a fresh process reads entries, having checked that its answers are right."""
    log = reopened(home, home / "state")
    read: list[int] = []
    original = log._store.rows
    log._store.rows = lambda query: read.append(query.start) or original(query)  # type: ignore[method-assign]
    newest = log.latest("custody.sealed", "o1")
    assert newest is not None
    assert newest.event.claim == "c295"
    with pytest.raises(AlreadyClaimed):
        log.append(Event(id="e", at="", who="", action="", object="", host="", why="", outcome="done", claim="c7"))
    log.verify()
    log.close()
    return read[0]


def test_a_fresh_process_goes_on_where_the_file_ends(home: Path, make_event: Make) -> None:
    assert first_read(home) == 295  # nothing but the entry that was asked for
    log = reopened(home)
    log.append(make_event())
    log.close()
    assert first_read(home) == 300


def test_the_file_is_written_when_it_is_worth_it(home: Path, make_event: Make) -> None:
    before = (home / "state").read_bytes()
    for count, written in ((255, False), (1, True)):
        log = reopened(home, home / "state")
        for _ in range(count):
            log.append(make_event())
        log.latest("custody.sealed", "o1")
        log.close()
        assert ((home / "state").read_bytes() != before) is written
    log = reopened(home, home / "new")
    log.close()  # nothing was asked, nothing was read
    assert not (home / "new").exists()


def test_an_older_authentic_file_means_more_reading(home: Path, make_event: Make) -> None:
    old = shutil.copy(home / "state", home / "old")
    log = reopened(home, home / "state")
    for _ in range(256):
        log.append(make_event())
    log.latest("custody.sealed", "o1")
    log.close()
    assert first_read(home) == 295
    shutil.copy(old, home / "state")
    assert first_read(home) == 300
