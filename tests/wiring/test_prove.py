"""`prove-limits`: everything bites as it is shipped, and a limit that was made inert is found."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from strongroom.serving.quotas import KINDS, SCOPES, Limits, Prices
from strongroom.serving.roster import Roster, RosterAccount, RosterKey, RosterOrg
from strongroom.wiring.prove import missing, prove

ROSTER = Roster(
    version=0,
    accounts=(
        RosterAccount("acme", active=True, rpm=1, tokens_per_day=3, org="globex"),
        RosterAccount("big", active=True, rpm=2**40, tokens_per_day=2**40, more=Limits(streams=1, money=2**50)),
    ),
    keys=(RosterKey("k1", b"1" * 32, "acme", accepted=True, limits=Limits(requests=5)),),
    terms="d",
    models=("chat:v1",),
    orgs=(RosterOrg("globex", Limits(requests=600, money=50)),),
    total=Limits(tokens=10**9, streams=3),
    prices=Prices(prompt=7, answer=30),
)
EVERY = {f"{kind}/{scope}" for kind in KINDS for scope in SCOPES if kind != "embeddings"}


def inert(roster: Roster, module: str = "strongroom.gateway") -> set[str]:
    return {one.name for one in asyncio.run(prove(roster, module=module)) if not one.bites}


def test_everything_bites() -> None:
    found = asyncio.run(prove(ROSTER))
    assert [one for one in found if not one.bites] == []
    names = {one.name for one in found}
    assert {"requests/account/acme", "tokens/account/acme", "requests/key/k1", "money/org/globex"} <= names
    assert {"tokens/total/", "streams/total/", "money/account/big", "streams/account/big"} <= names
    assert {name.rpartition("/")[0] for name in names if name.count("/") == 2 and " " not in name} >= EVERY


def test_money_without_prices_is_inert() -> None:
    free = msgspec.structs.replace(ROSTER, prices=Prices())
    assert inert(free) == {"money/org/globex", "money/account/big"}


@pytest.mark.parametrize("prices", [Prices(prompt=5), Prices(answer=5), Prices(prompt=30, answer=7)])
def test_money_bites_at_any_prices(prices: Prices) -> None:
    assert inert(msgspec.structs.replace(ROSTER, prices=prices)) == set()


def test_prices_that_are_not_heeded_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_TEST_INERT", "prices")
    dear = Roster(version=0, accounts=(), keys=(), terms="", models=(), prices=Prices(prompt=30, answer=30))
    assert inert(dear, "tests.gateway.inert_gateway") == {
        f"money/{scope}/(any)".replace("total/(any)", "total/") for scope in SCOPES
    }


@pytest.mark.parametrize("planted", sorted(EVERY - {"requests/account"}))  # no account is without that one
def test_a_limit_that_was_made_inert_is_found(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_TEST_INERT", planted)
    empty = Roster(version=0, accounts=(), keys=(), terms="", models=())
    found = inert(empty, "tests.gateway.inert_gateway")
    named = f"{planted}/" if planted.endswith("total") else f"{planted}/(any)"
    assert found == {named}


@pytest.mark.parametrize(
    ("planted", "kinds"),
    [
        ("cut", {"tokens", "money"}),
        ("settle", {"tokens", "money"}),
        ("route", {"route", "requests"}),
        ("embeddings", {"streams", "tokens", "money", "embeddings"}),
    ],
)
def test_other_faults_are_found(planted: str, kinds: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_TEST_INERT", planted)
    empty = Roster(version=0, accounts=(), keys=(), terms="", models=())
    found = inert(empty, "tests.gateway.inert_gateway")
    assert {name.partition("/")[0].partition(" ")[0] for name in found} == kinds


def test_a_limit_that_gateways_never_got_is_found() -> None:
    configured = {"k1": {"key/k1": Limits(requests=5, streams=2), "org/globex": Limits(requests=600)}}
    assert [one.name for one in missing(ROSTER, configured)] == ["streams/key/k1 over key k1"]
