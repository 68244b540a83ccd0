"""What this gateway compares answers with: the index, opened beside the event loop, and the counts of each account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from strongroom.core.errors import StrongroomError
from strongroom.core.log import log
from strongroom.ports.completions import Ask, Piece
from strongroom.ports.recall import Windows
from strongroom.serving.recall.answer import Filtered
from strongroom.serving.recall.gathered import Gathered
from strongroom.serving.recall.own import Own
from strongroom.serving.recall.policy import Action, Policy
from strongroom.serving.roster import RosterRecall
from strongroom.serving.usage import Settled
from strongroom.serving.wire import Wanted
from strongroom.serving.wire_errors import Refusal, refuse
from strongroom.wiring.windows import open_attached

_LOOK: Final = 5  # ticks between two looks at the index's files
_ANSWERS: Final = 8  # earlier answers that this one may go on from
_WARM: Final = 0.8  # at temperature 0 another answer would be the same
_STEP: Final = 0x5DEECE66D  # between the seeds of answers in each other's place
_SEEDS: Final = 1 << 31  # any engine takes so many
Gather = Callable[[int, Iterable[int]], bool]
_Seen = tuple[tuple[str, int, int, int, int], ...]
Open = Callable[[RosterRecall], Windows]


class Recalls:
    """One of these a gateway. Until control has spoken, and while an index can't be had, nothing is let through."""

    __slots__ = (
        "_day", "_gateways", "_gathered", "_incidents", "_index", "_open", "_opening", "_seen", "_shut", "_ticks",
        "_told", "_waiting",
    )  # fmt: skip

    def __init__(self, *, gateways: int = 1, opening: Open = open_attached) -> None:
        """Share what a day allows with the other `gateways`."""
        self._gateways = gateways
        self._open = opening
        self._told: RosterRecall | None = None
        self._index: Windows | None = None
        self._shut = True
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[], object]] = []  # for the newest roster to be judged by
        self._gathered = Gathered(0, stride=1)
        self._incidents: dict[str, int] = {}
        self._day = ""
        self._seen: _Seen = ()
        self._ticks = 0

    # ── the index ────────────────────────────────────────────────────────────────────────────────────────────────────
    def learn(self, told: RosterRecall | None, then: Callable[[], object]) -> None:
        """Judge by what control says now; call `then` once that is so. Until then it stays as it was."""
        self._waiting.append(then)
        old, self._told = self._told, told
        if told is None:
            self._forget_opening()
            self._judge_by(None, None)
        elif old is not None and self._index is not None and _same(old, told) and self._opening is None:
            self._judge_by(told, self._index)
        elif old is None or self._opening is None or not _same(old, told):
            self._reopen(told)

    def tick(self) -> None:
        """Now and then: look whether somebody has touched the index's files."""
        self._ticks += 1
        told = self._told
        if told is None or self._opening is not None or self._ticks % _LOOK:
            return
        if self._index is None or _files(told.folder) != self._seen:
            self._shut = True
            self._reopen(told)

    def _reopen(self, told: RosterRecall) -> None:
        self._forget_opening()
        self._opening = asyncio.get_running_loop().create_task(self._opened(told))

    def _forget_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    async def _opened(self, told: RosterRecall) -> None:
        """Open the index in a thread, for every byte of it is read."""
        seen, index = _files(told.folder), None
        try:
            index = await asyncio.get_running_loop().run_in_executor(None, self._open, told)
        except Exception as error:  # noqa: BLE001 - whatever it was: who goes on without an index lets everything through
            code = error.code if isinstance(error, StrongroomError) else type(error).__name__
            log.error("the window index can not be had: nothing is served", code=code)
        self._opening = None
        self._seen = seen
        self._judge_by(self._told, index)

    def _judge_by(self, told: RosterRecall | None, index: Windows | None) -> None:
        policy = Policy() if told is None else told.policy
        if index is not None and (index is not self._index or self._gathered.words != policy.gathered):
            self._gathered = Gathered(policy.gathered, stride=index.stride)
        self._index = index
        self._shut = told is not None and index is None
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def refusal(self, account: str, today: str) -> Refusal | None:
        """Return why no text may be written for an account now, if so."""
        if self._shut:
            return refuse("recall_unavailable")
        if self._told is None or not self._told.policy.incidents_per_day:
            return None
        most = max(1, self._told.policy.incidents_per_day // self._gateways)
        self._turn(today)
        return Refusal("recall_limit_exceeded") if self._incidents.get(account, 0) >= most else None

    def guard(self, account: str, wanted: Wanted, today: str) -> Guard | None:
        """Return what looks at the answer to a request; None where nothing is attached."""
        if self._index is None or self._told is None:
            return None
        gathered = self._gathered

        def gather(owner: int, windows: Iterable[int]) -> bool:
            return gathered.add(account, today, owner=owner, windows=windows)

        def count() -> None:
            self._turn(today)
            self._incidents[account] = self._incidents.get(account, 0) + 1

        return Guard(self._index, self._told.policy, wanted, gather=gather, count=count)

    def _turn(self, today: str) -> None:
        if self._day != today:
            self._day = today
            self._incidents.clear()


class Guard:
    """The looks at one request's answer, and at those that are written in its place."""

    __slots__ = (
        "_acted",
        "_count",
        "_filtered",
        "_gather",
        "_index",
        "_lost",
        "_mine",
        "_policy",
        "_rule",
        "_wanted",
        "left",
    )

    def __init__(
        self, index: Windows, policy: Policy, wanted: Wanted, *, gather: Gather, count: Callable[[], None]
    ) -> None:
        """Look at answers to `wanted`; `count` is called once, when something is held back."""
        own = [one.content for one in wanted.turns if one.role != "assistant"]
        self._mine = Own([*own, wanted.prompt] if wanted.prompt is not None else own)
        self._index = index
        self._policy = policy
        self._wanted = wanted
        self._gather = gather
        self._count = count
        self._rule = ""
        self._acted = ""
        self._lost = 0  # tokens that were written and that nobody got
        self.left = policy.tries  # answers that may still be written in place of this one
        self._filtered = self._begun()

    def _begun(self) -> Filtered:
        wanted, made = self._wanted, Filtered(self._index, self._policy, mine=self._mine, gather=self._gather)
        said = [one.content for one in wanted.turns if one.role == "assistant"]
        if wanted.prompt is not None:
            made.goes_on_from(wanted.prompt, counts=False)
        elif said:
            made.goes_on_from("\n".join(said[-_ANSWERS:]), counts=True)
        return made

    def feed(self, piece: Piece, tokens: int) -> Sequence[Piece]:
        """Take the next piece, behind which are so many tokens; return what may go."""
        return self._filtered.feed(piece, tokens)

    def end(self) -> Sequence[Piece]:
        """Return the rest, as far as it may go."""
        return self._filtered.end()

    def before(self) -> Sequence[Piece]:
        """Return what stands before the passage that may not go, and is held back."""
        return self._filtered.before()

    @property
    def due(self) -> bool:
        """Whether something must be done about the answer."""
        return self._filtered.incident is not None and self._acted in {"", "resample"}

    @property
    def told(self) -> str:
        """Why an answer that was stopped ended, as the client hears of it."""
        return "content_filter" if self._policy.tell == "plain" else "stop"

    def act(self, completion: int, *, out: bool) -> Action:
        """Return what is done about an answer of so many tokens; begin anew where another is to be written.

        `out`: the client has something of it already.
        """
        filtered, action = self._filtered, self._policy.action
        assert filtered.incident is not None  # noqa: S101 - nobody asks else
        if action == "resample" and (out or not self.left):
            action = "stop"
        if not self._rule and action != "mark":
            self._count()
        self._rule = self._rule or filtered.incident.rule
        self._acted = action
        if action == "resample":
            self.left -= 1
            self._lost += completion
            self._filtered = self._begun()
        return action

    def withhold(self, completion: int, *, everything: bool) -> int:
        """Return how many of an answer's tokens were held back for good."""
        lost = completion if everything else min(completion, self._filtered.withheld)
        self._lost += lost
        return lost

    def noted(self, line: Settled) -> Settled:
        """Return a usage line with what happened here."""
        near = int(self._filtered.near and not self._rule)
        return replace(line, recall=self._rule, acted=self._acted, withheld=self._lost, near=near)


def another(ask: Ask, left: int) -> Ask:
    """Return what asks for another answer to the same: under an id and a seed of its own, and never the likeliest."""
    seed = ask.seed if ask.seed is None else (ask.seed + _STEP * (left + 1)) % _SEEDS
    fresh = f"{ask.id.partition('~')[0]}~{left}"
    return replace(ask, id=fresh, seed=seed, temperature=max(ask.temperature, _WARM))


def _same(one: RosterRecall, other: RosterRecall) -> bool:
    return (one.index, one.digest, one.folder, one.key) == (other.index, other.digest, other.folder, other.key)


def _files(folder: str) -> _Seen:
    """Return what the files of an index look like from outside."""
    if not folder:
        return ()
    try:
        found = [(one.name, one.stat()) for one in sorted(Path(folder).iterdir())]
    except OSError:
        return ()
    # who may write a file may set when it was written, but not when it changed
    return tuple([(name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found])
