"""The usage spool, read back: lines into summaries for the ledger, and into what an account has used today.

A spool file is appended to by one gateway and read by the worker; a half-written last line is left for the next time.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.errors import AlreadyClaimed, RecordAltered
from strongroom.core.log import log
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.serving.quotas import Kind, Scope, budget_id
from strongroom.serving.usage import Admitted, Line, Refused, Settled

USED: Final = "serving.usage"
_MOST: Final = 1 << 20  # bytes of lines in one summary
_FULL: Final = 48_000  # bytes of one summary, about: an entry holds 65,535
_ROW: Final = 72  # bytes of an account's numbers, about
_CELLS: Final = 24  # bytes beside the words of a row
Row = tuple[str, str, str, str]
_DECODER: Final = msgspec.json.Decoder(Line)


@dataclass(slots=True)
class Tally:
    """What one account did between two moments."""

    requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    marked_tokens: int = 0
    bytes: int = 0
    logprobs: int = 0
    money: int = 0
    texts: int = 0
    rank: int = 0  # the highest
    incidents: int = 0  # answers that repeat the training text
    near: int = 0  # answers that came near that
    withheld: int = 0  # tokens that were written and not shown

    def row(self) -> list[int]:
        """Return the numbers in the order of docs/formats/usage-1.md."""
        return list(astuple(self))

    def add(self, line: Line) -> None:
        """Count a line."""
        match line:
            case Admitted():
                self.requests += 1
            case Refused():
                self.refused += line.count
            case Settled():
                self.prompt_tokens += line.prompt_tokens
                self.completion_tokens += line.completion_tokens
                self.marked_tokens += line.marked_tokens
                self.bytes += line.bytes
                self.logprobs += line.logprobs
                self.money += line.money
                self.texts += line.texts
                self.rank = max(self.rank, line.rank)
                self.incidents += bool(line.recall)
                self.near += line.near
                self.withheld += line.withheld

    def join(self, other: Tally) -> None:
        """Add what another one counted."""
        rank = max(self.rank, other.rank)
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rank = rank


@dataclass(slots=True)
class Batch:
    """A run of lines of one spool file, summed up."""

    file: str
    start: int
    end: int = 0
    digest: str = ""
    first: str = ""
    last: str = ""
    lines: int = 0
    accounts: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    asked: Counter[Row] = field(default_factory=Counter[Row])  # account, key, route, from where
    turned: Counter[Row] = field(default_factory=Counter[Row])  # account, key, route, refused by which code
    size: int = 0  # bytes that all this takes in an entry, about

    def add(self, line: Line) -> None:
        """Count a line."""
        self.first, self.last, self.lines = self.first or line.at, line.at, self.lines + 1
        if line.account not in self.accounts:
            self.size += len(line.account) + _ROW
        self.accounts[line.account].add(line)
        if isinstance(line, Admitted):
            self._count(self.asked, (line.account, line.key, line.route, line.origin), 1)
        elif isinstance(line, Refused):
            self._count(self.turned, (line.account, line.key, line.route, line.code), line.count)

    def _count(self, counter: Counter[Row], row: Row, number: int) -> None:
        if row not in counter:
            self.size += sum(map(len, row)) + _CELLS
        counter[row] += number

    def detail(self) -> Detail:
        """Return what the ledger says of the batch; accounts as JSON, the empty name for unknown keys."""
        rows = {name: tally.row() for name, tally in sorted(self.accounts.items())}
        return {
            "file": self.file,
            "start": self.start,
            "end": self.end,
            "digest": self.digest,
            "from": self.first,
            "to": self.last,
            "lines": self.lines,
            "accounts": msgspec.json.encode(rows).decode(),
            "asked": _listed(self.asked),
            "turned_away": _listed(self.turned),
        }


def _listed(counter: Counter[Row]) -> str:
    return msgspec.json.encode([[*row, number] for row, number in sorted(counter.items())]).decode()


class Summaries:
    """Brings spool files into the ledger, each line exactly once, whatever is killed meanwhile."""

    def __init__(self, folder: Path, journal: Journal, *, who: str) -> None:
        """Read the files in `folder`; write as `who`."""
        self._folder = folder
        self._journal = journal
        self._who = who
        self._done: dict[str, int] = {}
        self._spoilt: set[str] = set()

    def bring_in(self) -> int:
        """Write what is new into the ledger; return how many entries that took.

        A file that was tampered with is said to be so in the ledger, once, and left where it is: the others go on.
        """
        return sum(self._tried(file) for file in spool_files(self._folder) if file.name not in self._spoilt)

    def clear(self, before: str) -> int:
        """Delete files of days before the UTC day `before` that are in the ledger; return how many."""
        over = [file for file in spool_files(self._folder) if self._is_over(file, before)]
        for file in over:
            file.unlink(missing_ok=True)
            self._done.pop(file.name, None)
        return len(over)

    def _is_over(self, file: Path, before: str) -> bool:
        day = file.name.removeprefix("usage-")[:8]
        whole = file.name in self._done and file.stat().st_size == self._done[file.name]
        return whole and day.isdigit() and day < before.replace("-", "")

    def _tried(self, file: Path) -> int:
        try:
            return self._bring_in(file)
        except OSError as error:
            log.error("usage lines not read", reason=error.strerror or "")  # the next look may have more luck
        except RecordAltered as error:
            self._spoilt.add(file.name)
            at = self._done.get(file.name, 0)
            detail: Detail = {"file": file.name[:200], "at": at, "code": error.code}
            log.error("a usage file is spoilt", code=error.code, index=at)
            # without a claim, which the log's key could take first: a worker that starts again says it again
            self._journal.record(Act(self._who, USED, "serving"), "failed", detail=detail)
        return 0

    def _bring_in(self, file: Path) -> int:
        entries = 0
        if file.name not in self._done:
            self._done[file.name] = self._known(file.name)
        while (batch := read_batch(file, self._done[file.name])) is not None:
            # The claim makes a batch count once, even where two workers write or one was killed after writing.
            claim = _claim(file.name, batch.start)
            try:
                self._journal.record(Act(self._who, USED, "serving"), "done", detail=batch.detail(), claim=claim)
            except AlreadyClaimed:
                self._done[file.name] = self._known(file.name)
            else:
                self._done[file.name] = batch.end
                entries += 1
        return entries

    def _known(self, file: str) -> int:
        """Return how far the ledger says that the file was read."""
        start = 0
        while (entry := next(self._journal.ledger.find(claim=_claim(file, start)), None)) is not None:
            end = entry.event.detail.get("end")
            if not isinstance(end, int) or end <= start:
                raise RecordAltered("a summary that ends before it begins", where=f"ledger entry {entry.index}")
            start = end
        return start


def _claim(file: str, start: int) -> str:
    return f"usage:{file}@{start}"


def spool_files(folder: Path) -> list[Path]:
    """Return the spool files in `folder`, oldest first."""
    return sorted(file for file in folder.glob("usage-*.jsonl") if file.is_file() and not file.is_symlink())


def read_batch(file: Path, start: int) -> Batch | None:
    """Return the whole lines of `file` from byte `start` on, as many as fit a summary, or None if there are none.

    Raises:
        RecordAltered: a line is no usage line, or the file is shorter than it was.

    """
    with file.open("rb") as stream:
        if stream.seek(0, 2) < start:
            raise RecordAltered("the file is shorter than it was", where=file.name)
        stream.seek(start)
        raw = stream.read(_MOST)
    batch, end = Batch(file.name, start), start
    for line in raw.splitlines(keepends=True):
        if not line.endswith(b"\n") or batch.size >= _FULL:
            break
        batch.add(_parse(line, where=f"{file.name} at byte {end}"))
        end += len(line)
    if end == start:
        return None
    batch.end, batch.digest = end, hashlib.sha256(raw[: end - start]).hexdigest()
    return batch


@dataclass(frozen=True, slots=True)
class _Use:
    """What a request used, or may have used, and of whose."""

    scopes: tuple[tuple[Scope, str], ...]
    tokens: int
    money: int
    texts: int

    def add_to(self, used: dict[str, int]) -> None:
        """Add it to what was used of every budget that may be over it."""
        amounts: dict[Kind, int] = {"tokens": self.tokens, "money": self.money, "embeddings": self.texts}
        for kind, amount in amounts.items():
            for scope, name in self.scopes if amount else ():
                budget = budget_id(kind, scope, name)
                used[budget] = used.get(budget, 0) + amount


def used_today(folder: Path, day: str) -> dict[str, int]:
    """Return what was used of each budget on a UTC `day`; an admitted request that never settled counts whole."""
    open_requests: dict[str, _Use] = {}
    used: dict[str, int] = {}
    for line in _lines(file for file in spool_files(folder) if _may_hold(file, day)):
        match line:
            case Admitted() if line.at.startswith(day):
                open_requests[line.id] = _Use(_scopes(line), line.reserved, line.money, line.texts)
            case Settled() if line.id in open_requests:
                scopes = open_requests.pop(line.id).scopes
                tokens = line.prompt_tokens + line.completion_tokens
                _Use(scopes, tokens, line.money, line.texts).add_to(used)
            case _:
                pass
    for use in open_requests.values():
        use.add_to(used)
    return used


def _scopes(line: Admitted) -> tuple[tuple[Scope, str], ...]:
    own: tuple[tuple[Scope, str], ...] = (("key", line.key), ("account", line.account), ("total", ""))
    return (*own, ("org", line.org)) if line.org else own


def _may_hold(file: Path, day: str) -> bool:
    """Whether a file may hold lines of `day`: it was begun on that day, or on the one before and not ended by then."""
    begun, wanted = file.name.removeprefix("usage-")[:8], dt.date.fromisoformat(day)
    return not begun.isdigit() or begun >= (wanted - dt.timedelta(days=1)).strftime("%Y%m%d")


def _lines(files: Iterable[Path]) -> Iterator[Line]:
    for file in files:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.endswith(b"\n"):
                    yield _parse(line, where=f"{file.name} line {number}")


def _parse(line: bytes, *, where: str) -> Line:
    try:
        return _DECODER.decode(line)
    except msgspec.MsgspecError:
        raise RecordAltered("this is no usage line", where=where) from None
