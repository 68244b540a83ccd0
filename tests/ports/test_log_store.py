"""The contract of a log store, for every back end."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import BadInput, HomeVersion, LedgerAltered, LedgerUnavailable
from strongroom.ports.log_store import LogQuery, LogRow, LogStore, LogWrite

BACK_ENDS: dict[str, Callable[[Path], LogStore]] = {"sqlite": lambda directory: SqliteLog(directory / "log.db")}


@pytest.fixture(params=BACK_ENDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], LogStore]:
    """Something that opens the same store again and again."""
    return lambda: BACK_ENDS[request.param](tmp_path)


def row(index: int, **changes: str | None) -> LogRow:
    fields = {"id": f"id{index}", "action": f"a{index % 2}", "object": f"o{index % 3}", "claim": None} | changes
    return LogRow(index, f"raw {index}".encode(), **fields)  # type: ignore[arg-type]


def put(store: LogStore, rows: list[LogRow], head: bytes = b"head", was: bytes | None = None) -> None:
    with store.turn([], check) as turn:
        turn.commit(LogWrite(rows=rows, tiles={(0, 0): b"hashes"}, head=head, was=was))


def check(raw: bytes) -> object:
    """Refuse nothing but b"bad"."""
    if raw == b"bad":
        raise BadInput("bad", where="spool")
    return raw


def test_an_empty_store(opener: Callable[[], LogStore]) -> None:
    with closing(opener()) as store:
        assert store.head() is None
        assert store.rows(LogQuery()) == []
        assert store.tile(0, 0) is None


def test_a_commit_is_seen_by_all_and_lasts(opener: Callable[[], LogStore]) -> None:
    with closing(opener()) as store, closing(opener()) as other:
        put(store, [row(0), row(1)])
        for one in (store, other):
            assert one.head() == b"head"
            assert one.rows(LogQuery()) == [row(0), row(1)]
            assert one.tile(0, 0) == b"hashes"
    with closing(opener()) as store:
        assert store.rows(LogQuery()) == [row(0), row(1)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (LogQuery(start=3, stop=5), [3, 4]),
        (LogQuery(start=8, limit=9), [8, 9]),
        (LogQuery(limit=2), [0, 1]),
        (LogQuery(newest=True, limit=2), [9, 8]),
        (LogQuery(action="a1", object="o0"), [3, 9]),
        (LogQuery(action="a1", object="o0", newest=True, limit=1), [9]),
        (LogQuery(ids=("id4", "id2", "none")), [2, 4]),
        (LogQuery(ids=()), []),
        (LogQuery(object="none"), []),
    ],
)
def test_queries(opener: Callable[[], LogStore], query: LogQuery, expected: list[int]) -> None:
    with closing(opener()) as store:
        put(store, [row(n, claim="c5" if n == 5 else None) for n in range(10)])
        assert [found.index for found in store.rows(query)] == expected
        with store.turn([], check) as turn:
            assert [found.index for found in turn.rows(query)] == expected


def test_tiles_far_up_and_far_right(opener: Callable[[], LogStore]) -> None:
    tiles = {(63, 0): b"up", (0, 2**40): b"right", (1, 0): b"other"}
    with closing(opener()) as store:
        with store.turn([], check) as turn:
            turn.commit(LogWrite(rows=[], tiles=tiles, head=b"1", was=None))
            turn.commit(LogWrite(rows=[], tiles={(1, 0): b"grown"}, head=b"2", was=b"1"))
            assert turn.head() == b"2"
        assert {at: store.tile(*at) for at in tiles} == tiles | {(1, 0): b"grown"}


def test_a_commit_is_whole_or_not_at_all(opener: Callable[[], LogStore]) -> None:
    with closing(opener()) as store:
        put(store, [row(0, claim="c")])
        for clash in (row(0), row(1, id="id0"), row(1, claim="c")):
            with pytest.raises(LedgerAltered):
                put(store, [row(2), clash], head=b"next", was=b"head")
        assert store.rows(LogQuery()) == [row(0, claim="c")]
        assert store.head() == b"head"


def test_a_commit_on_another_head_is_refused(opener: Callable[[], LogStore]) -> None:
    with closing(opener()) as store:
        put(store, [])
        with pytest.raises(LedgerUnavailable):
            put(store, [row(0)], head=b"next", was=b"another")
        assert store.rows(LogQuery()) == []


def test_turns_exclude_each_other_and_offers_are_taken_along(opener: Callable[[], LogStore]) -> None:
    taken: list[bytes] = []
    offered = threading.Event()

    def checked(raw: bytes) -> object:
        return check(raw)

    with closing(opener()) as first, closing(opener()) as second, closing(opener()) as third:

        def wait(store: LogStore, offer: list[bytes]) -> None:
            with store.turn(offer, checked) as turn:
                assert offered.is_set()
                taken.extend(turn.offered)

        with first.turn([b"mine"], checked) as turn:
            assert list(turn.offered) == []
            threads = [threading.Thread(target=wait, args=(second, [b"x", b"y"]))]
            threads.append(threading.Thread(target=wait, args=(third, [b"bad"])))
            for thread in threads:
                thread.start()
            offered.set()
        for thread in threads:
            thread.join()
        assert b"bad" not in taken
        assert b"mine" not in taken


def test_a_turn_ends_with_an_error_too(opener: Callable[[], LogStore]) -> None:
    with closing(opener()) as first, closing(opener()) as second:
        with pytest.raises(BadInput), first.turn([], check):
            raise BadInput("on purpose", where="test")
        put(second, [row(0)])


def test_sqlite_refuses_another_version(tmp_path: Path) -> None:
    with closing(SqliteLog(tmp_path / "log.db")) as store:
        store._writer.execute("PRAGMA user_version = 2")
    with pytest.raises(HomeVersion):
        SqliteLog(tmp_path / "log.db")


def test_sqlite_files_are_private(tmp_path: Path) -> None:
    with closing(SqliteLog(tmp_path / "log.db")) as store:
        put(store, [row(0)])
        assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_offers_of_a_waiting_process_are_written_by_the_holder(tmp_path: Path) -> None:
    # a waiter that has left its offer and sleeps in the kernel: planted by hand, so that nothing depends on timing
    with closing(SqliteLog(tmp_path / "log.db")) as holder, closing(SqliteLog(tmp_path / "log.db")) as waiter:
        left = waiter._turn._leave([b"x", b"y"])
        assert left is not None
        with pytest.raises(BadInput), holder.turn([], check) as turn:
            raise BadInput("the turn fails", where="test")
        assert left.exists()  # a failed turn leaves the offer for the next
        with holder.turn([], check) as turn:
            assert list(turn.offered) == [b"x", b"y"]
        assert not left.exists()


def test_a_full_spool_costs_speed_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with closing(SqliteLog(tmp_path / "log.db")) as store:
        monkeypatch.setattr(Path, "rename", full)
        assert store._turn._leave([b"x"]) is None
        assert not list((tmp_path / "spool").iterdir())
        put(store, [row(0)])


def test_locks_that_do_not_work_are_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int, operation: int) -> None:
        if operation != fcntl.LOCK_UN:
            raise OSError(37, "No locks available")

    with closing(SqliteLog(tmp_path / "log.db")) as store:
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", broken)
            with pytest.raises(LedgerUnavailable):
                put(store, [row(0)])
        put(store, [row(0)])
