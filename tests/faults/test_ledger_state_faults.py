"""An intruder who hides, edits and swaps entries that decisions rest on, or the kept state index."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.clock import SystemClock
from strongroom.core.errors import (
    AlreadyClaimed,
    BadInput,
    LedgerAltered,
    LedgerForked,
    LedgerRolledBack,
    LedgerTruncated,
)
from strongroom.core.ids import new_id
from strongroom.core.secrets import Secret
from strongroom.ledger import checkpoints, events, kept, state
from strongroom.ledger.events import Event
from strongroom.ledger.journal import Journal
from strongroom.ledger.keys import create_log_key, load_log_key
from strongroom.ledger.log import Ledger
from strongroom.ledger.merkle import leaf_hash
from strongroom.wiring.home import create_home, open_home

SEALED = "custody.sealed"
SIZE = 300


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "at": "2026-11-23T07:17:39.125Z",
        "who": "os:1",
        "action": "custody.open",
        "object": "o",
        "host": "h",
        "why": "",
        "outcome": "done",
    }
    fields |= {"id": new_id("evt")} | changes
    return Event(**fields)


def open_log(home: Path, *, cached: bool = True) -> Ledger:
    return Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"), home / "state" if cached else None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 entries, and the index kept: versions 1 and 2 of `m` at 100 and 200, an approval used at 150."""
    home = tmp_path_factory.mktemp("template")
    key = create_log_key(home / "log.key", "strongroom.local/t")
    log = Ledger.create(SqliteLog(home / "log.db"), key, home / "state")
    special = {
        100: event(action=SEALED, object="m", claim="version:m@1"),
        150: event(action="custody.export", object="m", claim="request:1"),
        200: event(action=SEALED, object="m", claim="version:m@2"),
    }
    for turn in range(SIZE):
        log.append(special.get(turn, event(detail={"n": turn})))
    log.latest(SEALED, "m")
    log.close()
    return home


@pytest.fixture
def home(tmp_path: Path, template: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(template, tmp_path / "home")


def spoil(home: Path, sql: str) -> None:
    with closing(sqlite3.connect(home / "log.db", isolation_level=None)) as connection:
        connection.executescript(sql)


def newest(log: Ledger) -> None:
    found = log.latest(SEALED, "m")
    assert found is None or found.index != 200  # only tampering with 200 is tried: the right answer is none
    pytest.fail("an older version, or none, was taken for the newest")


def every(log: Ledger) -> None:
    found = [one.index for one in log.find(action=SEALED, object="m")]
    pytest.fail(f"taken for all versions: {found}")


def used(log: Ledger) -> None:
    found = [one.index for one in log.find(claim="request:1")]
    pytest.fail(f"taken for all uses of the approval: {found}")


def redeem(log: Ledger) -> None:
    log.append(event(claim="request:1"))
    pytest.fail("the approval was used twice")


Use = Callable[[Ledger], None]
SWAP = """
CREATE TEMP TABLE other AS SELECT * FROM entry WHERE at = 100;
DELETE FROM entry WHERE at = 100;
UPDATE entry SET at = 100 WHERE at = 200;
INSERT INTO entry SELECT 200, raw, id, action, object, claim FROM other;
"""
HIDING: dict[str, tuple[str, tuple[Use, ...]]] = {
    "the action": ("UPDATE entry SET action = 'x' WHERE at = 200", (newest, every)),
    "the object": ("UPDATE entry SET object = 'x' WHERE at = 200", (newest, every)),
    "the row": ("DELETE FROM entry WHERE at = 200", (newest, every)),
    "the row and its place": ("DELETE FROM entry WHERE at >= 200", (newest, every)),
    "the bytes": ("UPDATE entry SET raw = replace(raw, 'os:1', 'os:2') WHERE at = 200", (newest, every)),
    "two versions swapped": (SWAP, (newest, every)),
    "the claim": ("UPDATE entry SET claim = NULL WHERE at = 150", (used, redeem)),
    "the claim, for another": ("UPDATE entry SET claim = 'request:2' WHERE at = 150", (used, redeem)),
    "the claim's uniqueness": (
        "DROP INDEX entry_claim; UPDATE entry SET claim = NULL, id = 'evt_x' WHERE at = 150",
        (used, redeem),
    ),
    "the claiming row": ("DELETE FROM entry WHERE at = 150", (used, redeem)),
    "the claiming bytes": (
        "UPDATE entry SET claim = NULL, raw = replace(raw, '\"request:1\"', 'null') WHERE at = 150",
        (used, redeem),
    ),
    "the claiming row, by a copy of another": (
        "UPDATE entry SET claim = NULL, raw = (SELECT raw FROM entry WHERE at = 3) WHERE at = 150",
        (used, redeem),
    ),
}
CASES = [(name, use) for name, (_, uses) in HIDING.items() for use in uses]


@pytest.mark.parametrize("process", ["fresh", "fresh with a kept index", "running", "running since the start"])
@pytest.mark.parametrize(("case", "use"), CASES)
def test_nothing_that_decides_can_be_hidden(home: Path, case: str, use: Use, process: str) -> None:
    if process.startswith("running"):
        log = open_log(home, cached=False)
        if process.endswith("start"):
            log.latest(SEALED, "m")
        spoil(home, HIDING[case][0])
    else:
        spoil(home, HIDING[case][0])
        log = open_log(home, cached="kept" in process)
    for _ in range(2):  # asking again does not help
        with pytest.raises((LedgerAltered, LedgerTruncated, AlreadyClaimed)) as caught:
            use(log)
        assert use is redeem or not isinstance(caught.value, AlreadyClaimed)
    log.close()


@pytest.mark.parametrize("cached", [False, True])
def test_tiles_forged_along_with_an_entry_do_not_help(home: Path, *, cached: bool) -> None:
    log = open_log(home, cached=False)
    for at, raw in [(at, log.entry(at).raw.replace(b"os:1", b"os:2")) for at in (0, 200, SIZE - 1)]:
        tile = log._store.tile(0, at // 256)
        assert tile is not None
        tile = tile[: at % 256 * 32] + leaf_hash(raw) + tile[at % 256 * 32 + 32 :]
        with closing(sqlite3.connect(home / "log.db")) as connection, connection:
            connection.execute("UPDATE entry SET raw = ? WHERE at = ?", (raw, at))
            connection.execute("UPDATE tile SET hashes = ? WHERE at = ?", (tile, at // 256))
    log.close()
    log = open_log(home, cached=cached)
    asks: list[Callable[[], object]] = [
        lambda: log.latest(SEALED, "m"),
        lambda: list(log.find(action=SEALED)),
        lambda: log.entry(0),
        Journal(log, SystemClock(), "h").now,
    ]
    for ask in asks:
        with pytest.raises(LedgerAltered):
            ask()
    log.close()


def test_entries_that_no_tile_blames_do_not_lead_to_the_root(home: Path) -> None:
    # the newest log checkpoint is another one that the key has signed; entries and tiles fit each other
    log = open_log(home, cached=False)
    key = load_log_key(home / "log.key")
    lie = checkpoints.sign(SIZE, leaf_hash(b"another tree"), key.signer)
    with closing(sqlite3.connect(home / "log.db")) as connection, connection:
        connection.execute("UPDATE head SET note = ?", (lie.text,))
    with pytest.raises(LedgerAltered) as caught:
        log.latest(SEALED, "m")
    assert caught.value.where == "log checkpoint"
    log.close()


def test_what_a_running_process_has_read_stays(home: Path) -> None:
    log = open_log(home, cached=False)
    old = log.checkpoint().text
    log.append(event(action=SEALED, object="m", claim="version:m@3"))
    log.latest(SEALED, "m")
    key = load_log_key(home / "log.key")
    lie = checkpoints.sign(SIZE + 1, leaf_hash(b"another tree"), key.signer).text
    for text, expected in ((old, LedgerRolledBack), (lie, LedgerForked)):
        with closing(sqlite3.connect(home / "log.db")) as connection, connection:
            connection.execute("UPDATE head SET note = ?", (text,))
        with pytest.raises(expected):
            log.latest(SEALED, "m")
    log.close()


def test_bytes_that_are_no_event_are_named(home: Path) -> None:
    spoil(home, "UPDATE entry SET raw = x'00' WHERE at = 7")
    log = open_log(home, cached=False)
    with pytest.raises(LedgerAltered) as caught:
        log.latest(SEALED, "m")
    assert caught.value.where == "entry 7"
    log.close()


def test_refusals_are_logged_even_if_no_claim_can_be_judged(home: Path) -> None:
    spoil(home, "DELETE FROM entry WHERE at = 7")
    log = open_log(home, cached=False)
    with pytest.raises(LedgerAltered):
        log.append(event(claim="request:9"))
    assert log.append(event(outcome="refused")).index == SIZE
    log.close()


def test_a_planted_row_is_not_a_receipt_for_a_claim(home: Path) -> None:
    # a waiter's entry lies in the spool for all to read: its id and bytes over another row are not the entry
    mine = event(claim="request:9")
    with closing(sqlite3.connect(home / "log.db")) as connection, connection:
        row = (events.encode(mine), mine.id, mine.claim)
        connection.execute("UPDATE entry SET raw = ?, id = ?, claim = ? WHERE at = 7", row)
    log = open_log(home)
    with pytest.raises(LedgerAltered) as caught:
        log.append(mine)
    assert caught.value.where == "entry 7"
    log.close()


# ── the kept index ───────────────────────────────────────────────────────────────────────────────────────────────────
def believed(home: Path) -> bool:
    """Whether a fresh process takes over the kept index; its answers are right either way."""
    log = open_log(home)
    found = log.latest(SEALED, "m")
    assert found is not None
    assert found.index == 200
    with pytest.raises(AlreadyClaimed):
        log.append(event(claim="request:1"))
    taken = log._state._kept > 0
    log.verify()
    log.close()
    return taken


def forged(home: Path, *, by: str = "log.key", **changes: Any) -> None:
    """Put an index in place that says something else, signed by the key in `by`."""
    found = kept.read(home / "state", load_log_key(home / "log.key"))
    assert found is not None
    fields = {name: getattr(found, name) for name in ("size", "frontier", "marks")} | changes
    assert kept.write(home / "state", kept.Kept(**fields), load_log_key(home / by))


def test_the_kept_index_is_taken_over(home: Path) -> None:
    assert believed(home)


def damages() -> dict[str, Callable[[Path], object]]:
    def data(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        return lambda home: (home / "state").write_bytes(change((home / "state").read_bytes()))

    def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda home: ((home / "state").unlink(), make(home / "state"))

    return {
        "altered": data(lambda raw: raw.replace(b"version:m@2", b"version:m@9")),
        "the size altered": data(lambda raw: raw.replace(b'"size":300', b'"size":200')),
        "truncated": data(lambda raw: raw[:-1]),
        "half": data(lambda raw: raw[: len(raw) // 2]),
        "empty": data(lambda _: b""),
        "longer": data(lambda raw: raw + b"\n\n{}"),
        "not a note": data(lambda _: b"\xff" * 100),
        "no signature": data(lambda raw: raw.rpartition(b"\n\n")[2]),
        "missing": lambda home: (home / "state").unlink(),
        "a directory": instead(Path.mkdir),
        "a pipe": instead(os.mkfifo),
        "a link": lambda home: ((home / "state").rename(home / "s"), (home / "state").symlink_to("s")),
        "unreadable": instead(lambda file: file.symlink_to(file)),
        "huge": lambda home: os.truncate(home / "state", (1 << 28) + 1),
    }


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_kept_index_is_passed_over(home: Path, damage: str) -> None:
    damages()[damage](home)
    assert not believed(home)


def test_a_kept_index_of_another_key_is_passed_over(home: Path) -> None:
    create_log_key(home / "other.key", "strongroom.local/t")
    forged(home, by="other.key", marks=[])
    assert not believed(home)
    with pytest.raises(BadInput):  # and a signed index is no log checkpoint
        checkpoints.parse(
            (home / "state").read_bytes().split(b"\n{")[0], load_log_key(home / "log.key").verifier, where=""
        )


@pytest.mark.parametrize("changes", [{"size": 2**40}, {"frontier": []}, {"frontier": [b"x" * 32] * 4}, {"size": -1}])
def test_a_kept_index_that_does_not_fit_the_log_is_passed_over(home: Path, changes: dict[str, Any]) -> None:
    forged(home, **changes)
    assert not believed(home)


def test_a_kept_index_of_another_history_is_passed_over(home: Path, tmp_path: Path) -> None:
    # the whole home was copied, and both copies went on
    other = shutil.copytree(home, tmp_path / "other")
    for where, count in ((home, 300), (other, 256)):
        log = open_log(where)
        for _ in range(count):
            log.append(event())
        log.latest(SEALED, "m")
        log.close()
    shutil.copy(other / "state", home / "state")
    assert not believed(home)


def test_a_kept_index_newer_than_the_log_is_passed_over(home: Path, template: Path) -> None:
    log = open_log(home)
    for _ in range(256):
        log.append(event())
    log.latest(SEALED, "m")
    log.close()
    for file in ("log.db", "log.db-wal", "log.db-shm"):
        (home / file).unlink(missing_ok=True)
    shutil.copy(template / "log.db", home / "log.db")
    assert not believed(home)


def test_verify_names_a_kept_index_that_the_log_s_own_key_was_misused_for(home: Path) -> None:
    # who holds log.key can sign anything; what they can't do is have it agree with the entries
    found = kept.read(home / "state", load_log_key(home / "log.key"))
    assert found is not None
    forged(home, marks=[one for one in found.marks if one.index != 200])
    log = open_log(home)
    with pytest.raises(LedgerAltered) as caught:
        log.verify()
    assert caught.value.where == "state index"
    log.close()


def test_verify_names_a_forged_file_that_this_process_did_not_use(home: Path) -> None:
    log = open_log(home)
    log.latest(SEALED, "m")
    forged(home, marks=[])
    with pytest.raises(LedgerAltered) as caught:
        log.verify()
    assert caught.value.where == str(home / "state")
    log.close()


@pytest.mark.parametrize("block", ["a directory in its place", "a directory where it is drafted", "no directory"])
def test_a_file_that_cannot_be_written_stops_nothing(home: Path, block: str) -> None:
    (home / "state").unlink()
    file = home / "state"
    if block == "no directory":
        file = home / "gone" / "state"
    else:
        (home / ("state" if block.endswith("place") else "state.tmp")).mkdir()
        (home / ("state" if block.endswith("place") else "state.tmp") / "x").touch()
    log = Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"), file)
    assert log.latest(SEALED, "m") is not None
    log.close()
    assert not file.is_file()


def test_a_lock_lost_in_a_fork_stops_nothing(home: Path) -> None:
    (home / "state").unlink()
    log = open_log(home)
    log.latest(SEALED, "m")
    log._state._lock.acquire()
    log.close()
    assert not (home / "state").exists()


# ── a whole home ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_home_keeps_its_index_and_believes_no_hidden_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_WORTH", 1)
    home, _ = create_home(tmp_path / "home", "ann", Secret(b"correct horse battery"))
    assert home.desk.people.find("ann").active
    home.close()
    assert (tmp_path / "home" / "ledger" / "state-index").is_file()
    for process in ("with the index", "without"):
        home = open_home(tmp_path / "home")
        assert home.desk.rules.current().digest
        home.close()
        with closing(sqlite3.connect(tmp_path / "home" / "ledger" / "log.sqlite3")) as connection, connection:
            connection.execute("UPDATE entry SET action = 'x' WHERE action = 'access.policy.adopted'")
        home = open_home(tmp_path / "home")
        with pytest.raises(LedgerAltered):
            home.desk.rules.current()
        home.close()
        with closing(sqlite3.connect(tmp_path / "home" / "ledger" / "log.sqlite3")) as connection, connection:
            connection.execute("UPDATE entry SET action = 'access.policy.adopted' WHERE action = 'x'")
        if process == "with the index":
            (tmp_path / "home" / "ledger" / "state-index").unlink()
