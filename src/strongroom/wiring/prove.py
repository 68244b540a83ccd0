"""`strongroom serving prove-limits`: every limit, route and field rule of the running configuration, driven (rule 11).

A limit that reads as configured and does not bite is the commonest fault of gateways. So each one is tried on the real
gateway process over real HTTP: all of it but a little is taken as used by others, the little is used up, and what comes
next must be refused, by that limit's name and code, or the stream be cut at it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.clock import SystemClock
from strongroom.serving.admit import Book
from strongroom.serving.books import day_of
from strongroom.serving.disclosure.tiers import FIRST
from strongroom.serving.policy import CHAT, EMBED, TEXT
from strongroom.serving.quotas import CODES, KINDS, NONE, SCOPES, WHOSE, Budget, Kind, Limits, Prices, Scope, budgets_of
from strongroom.serving.roster import Roster, RosterAccount, RosterKey, RosterOrg
from strongroom.wiring.proof_client import Came, hold_open, send
from strongroom.wiring.proof_gateway import MODEL, ProofControl, proof_gateway
from strongroom.wiring.proof_rules import Rule, routes_and_fields

_GATEWAY: Final = "strongroom.gateway"
_WIDE: Final = 2**41  # over every limit that can be configured
_ROOM: Final = {"requests": 2, "streams": 2, "tokens": 64, "money": 64, "embeddings": 2}
_MORE: Final = 100  # tokens that are asked for beyond the room
_STEP: Final = 0.02
_NOTHING: Final = Budget("", "requests", "key", _WIDE)
_TRIES: Final = 50
_LIMITED: Final = 429


class Bite(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether one limit, route or rule bites; if not, what happened instead."""

    name: str
    bites: bool
    why: str = ""


class Prover:
    """Drives one gateway."""

    def __init__(self, control: ProofControl, port: int, prices: Prices) -> None:
        """Drive the gateway at `port`, whose control is `control`."""
        self._control = control
        self._port = port
        self._priced = bool(prices.prompt or prices.answer)
        self._prices = prices if self._priced else Prices(prompt=1, answer=1)
        self._day = day_of(SystemClock().now())

    async def limit(self, budget: Budget, *, configured: bool) -> Bite:
        """Use a limit up, and look whether it bites; one that is `configured` at the prices that are, too."""
        if configured and budget.kind == "money" and not self._priced:
            return Bite(budget.id, bites=False, why="serving.prompt_price and serving.answer_price are 0")
        key, prices = secrets.token_urlsafe(32), self._prices
        room = min(
            budget.limit, _ROOM[budget.kind] * (max(prices.prompt, prices.answer) if budget.kind == "money" else 1)
        )
        await self._control.judge_by(_alone(budget, key, prices))
        self._control.leave(budget, room, self._day)
        drive = {"requests": self._requests, "streams": self._streams, "embeddings": self._embeddings}
        why = await drive.get(budget.kind, self._stream)(budget, key, room)
        return Bite(budget.id, bites=not why, why=why)

    async def rule(self, rule: Rule) -> Bite:
        """Break a rule, and look whether that is refused."""
        key = secrets.token_urlsafe(32)
        await self._control.judge_by(_alone(_NOTHING, key, self._prices, tier=rule.tier))
        shown = "" if rule.code == "missing_api_key" else key
        for earlier in rule.before:
            await self._send(key, rule.target, {"model": MODEL, **earlier, "max_tokens": 1})
        body = {"model": MODEL, **rule.body} if rule.body is not None else None
        came = await asyncio.to_thread(send, self._port, shown, (rule.method, rule.target), body=body)
        right = came.code == rule.code and came.param == rule.param
        return Bite(rule.name, bites=right, why="" if right else f"{came.status} {came.code}".strip())

    # ── one for each kind ────────────────────────────────────────────────────────────────────────────────────────────
    async def _requests(self, budget: Budget, key: str, room: int) -> str:
        came = [await self._send(key, "/v1/models") for _ in range(room + 1)]
        return _let_in(came[:room]) or _refused(came[-1], budget) or await self._elsewhere(budget, key)

    async def _streams(self, budget: Budget, key: str, room: int) -> str:
        body = _prompt("wait")
        lines = [await asyncio.to_thread(hold_open, self._port, key, CHAT, body=body) for _ in range(room)]
        came = Came(0)
        try:
            for _ in range(_TRIES):  # those that are open may not have been read yet
                came = await self._send(key, CHAT, _prompt("go", max_tokens=1))
                if came.status == _LIMITED:
                    break
                await asyncio.sleep(_STEP)
            return _refused(came, budget) or await self._elsewhere(budget, key)
        finally:
            for line in lines:
                line.close()

    async def _stream(self, budget: Budget, key: str, room: int) -> str:
        """Tokens and money: a stream must be cut in the middle, in good order, and the next be refused."""
        if budget.kind == "money" and not self._prices.answer:
            return await self._prompts(budget, key, room)
        options = {"stream": True, "stream_options": {"include_usage": True}}
        came = await self._send(key, CHAT, _prompt("go", max_tokens=room + _MORE, **options))
        if came.status == _LIMITED:  # a limit so small that no prompt fits
            return _refused(came, budget)
        used = self._prices.cost(came.prompt, came.answer) if budget.kind == "money" else came.prompt + came.answer
        if not 0 < used <= room or came.finish != "length" or not came.done:
            return f"a stream ended with {came.finish or came.code or came.status} after {used} of {room}"
        after = await self._send(key, CHAT, _prompt("go", max_tokens=room + _MORE))
        return _refused(after, budget) or await self._elsewhere(budget, key)

    async def _prompts(self, budget: Budget, key: str, room: int) -> str:
        """Money where answers are free: as many prompts of one token are let in as it pays for."""
        many = room // self._prices.prompt
        came = [await self._send(key, CHAT, _prompt("go", max_tokens=1)) for _ in range(many + 1)]
        return _let_in(came[:many]) or _refused(came[many], budget) or await self._elsewhere(budget, key)

    async def _embeddings(self, budget: Budget, key: str, room: int) -> str:
        body = {"model": MODEL, "input": ["text"] * (room + 1)}
        return _refused(await self._send(key, EMBED, body), budget)

    async def _elsewhere(self, budget: Budget, key: str) -> str:
        """Return by which other route somebody gets in whose limit is used up, if by any."""
        asked: dict[str, dict[str, object]] = {TEXT: {"prompt": "go"}, EMBED: {"input": "go"}}
        if budget.kind == "money" and not self._prices.prompt:
            del asked[EMBED]  # it costs nothing
        for target, body in asked.items():
            why = _refused(await self._send(key, target, {"model": MODEL, **body}), budget)
            if why:
                return f"{why} at {target}"
        return ""

    async def _send(self, key: str, target: str, body: object = None) -> Came:
        route = ("GET" if body is None else "POST", target)
        return await asyncio.to_thread(send, self._port, key, route, body=body)


async def prove(roster: Roster, *, module: str = _GATEWAY, told: Callable[[Bite], None] = lambda _: None) -> list[Bite]:
    """Drive every limit of `roster`, every kind of limit at every scope, every route and every field rule.

    `told` hears of each as it is known. Nobody is charged.
    """
    found = list[Bite]()
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder:
        async with proof_gateway(Path(folder), module) as (control, port):
            prover = Prover(control, port, roster.prices)
            configured = Book(roster).budgets()
            for budget in ({one.id: one for one in _kinds()} | configured).values():
                found.append(await prover.limit(budget, configured=budget.id in configured))
                told(found[-1])
            for rule in routes_and_fields():
                found.append(await prover.rule(rule))
                told(found[-1])
    return found


def _kinds() -> Iterator[Budget]:
    """Yield one limit of each kind at each scope, whether or not one is configured."""
    for scope in SCOPES:
        for kind in KINDS:
            yield from budgets_of(scope, _temporary(scope), Limits(**{kind: 3 * _ROOM[kind]}))


def _temporary(scope: Scope) -> str:
    return "" if scope == "total" else "(any)"


def _alone(budget: Budget, shown: str, prices: Prices, *, tier: str = FIRST) -> Roster:
    """Return the part of a roster that one limit is in, with no other limit that could bite first."""
    limits = Limits(**{budget.kind: budget.limit})
    own: Callable[[Scope], Limits] = lambda scope: limits if scope == budget.scope else NONE  # noqa: E731
    name, carrier = budget.id.split("/", 2)[2] if budget.id else "(any)", f"(proof {secrets.token_hex(4)})"
    account_limits = own("account")
    account = RosterAccount(
        name if budget.scope == "account" else carrier,
        active=True,
        rpm=account_limits.requests or _WIDE,
        tokens_per_day=account_limits.tokens or _WIDE,
        tier=tier,
        org=name if budget.scope == "org" else "",
        more=msgspec.structs.replace(account_limits, requests=None, tokens=None),
    )
    digest = hashlib.sha256(shown.encode()).digest()
    key = RosterKey(name if budget.scope == "key" else carrier, digest, account.name, accepted=True, limits=own("key"))
    orgs = (RosterOrg(account.org, own("org")),) if account.org else ()
    models = (MODEL,)
    return Roster(
        version=0,
        accounts=(account,),
        keys=(key,),
        terms="",
        models=models,
        orgs=orgs,
        total=own("total"),
        prices=prices,
    )


def _prompt(text: str, **more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def _let_in(came: list[Came]) -> str:
    bad = next((one for one in came if one.status != 200), None)  # noqa: PLR2004 - HTTP's word for yes
    return f"refused before the limit: {bad.status} {bad.code}" if bad else ""


def _refused(came: Came, budget: Budget) -> str:
    """Return what is wrong with the answer that should be a refusal by that limit."""
    if came.status == _LIMITED and came.code == CODES[budget.kind] and WHOSE[budget.scope] in came.message:
        return ""
    return f"after the limit: {came.status} {came.code}".strip()


def missing(roster: Roster, configured: dict[str, dict[str, Limits]]) -> list[Bite]:
    """Return the limits that are configured and are not over the keys that gateways let in.

    `configured`: by key, the limits of each scope that stand over it, as the deeds have them.
    """
    callers = {one.key.id: {over.id for over in (*one.minute, *one.held)} for one in Book(roster).callers.values()}
    found = list[Bite]()
    for key, scopes in configured.items():
        for name, limits in scopes.items():
            wanted: list[tuple[Kind, int]] = list(limits.each())
            found += [
                Bite(f"{kind}/{name} over key {key}", bites=False, why="not in what gateways judge by")
                for kind, _ in wanted
                if key in callers and f"{kind}/{name}" not in callers[key]
            ]
    return found
