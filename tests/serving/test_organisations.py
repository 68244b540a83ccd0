"""Organisations and the total: deeds like accounts; and documents from before there were limits at every scope."""

from __future__ import annotations

import pytest

from strongroom.access.deeds import Deeds
from strongroom.access.settle import settle
from strongroom.core.errors import AlreadyExists, BadInput, NotPermitted
from strongroom.core.serving_errors import NoSuchOrganisation
from strongroom.serving.accounts import Accounts
from strongroom.serving.admit import Book
from strongroom.serving.organisations import Organisations
from strongroom.serving.quotas import FREE, Limits, Prices
from tests.access.office import Office


@pytest.fixture
def organisations(office: Office, deeds: Deeds) -> Organisations:
    return Organisations(deeds, office.journal.clock)


def test_every_scope_of_a_key_is_in_the_roster(
    office: Office, accounts: Accounts, organisations: Organisations
) -> None:
    organisations.add(office.owner, "globex", limits=Limits(money=5))
    organisations.change_total(office.owner, Limits(streams=9))
    accounts.add(office.owner, "acme", limits=Limits(requests=7, embeddings=3), org="globex")
    key, shown = accounts.add_key(office.owner, "acme", limits=Limits(tokens=11))
    roster = organisations.complete(accounts.roster(1, ("m",)), Prices(prompt=1, answer=2))
    caller = Book(roster).identify(b"Bearer " + shown.reveal())
    found = {one.id: one.limit for one in (*caller.minute, *caller.held)}  # type: ignore[union-attr]
    assert found == {
        "requests/account/acme": 7,
        "tokens/account/acme": 200_000,
        "embeddings/account/acme": 3,
        f"tokens/key/{key.id}": 11,
        "money/org/globex": 5,
        "streams/total/": 9,
    }
    assert roster.prices == Prices(prompt=1, answer=2)


def test_limits_are_set_kept_and_taken_away(office: Office, accounts: Accounts, organisations: Organisations) -> None:
    organisations.add(office.owner, "globex", limits=Limits(money=5, requests=6))
    assert organisations.change(office.owner, "globex", Limits(money=0, streams=2)).limits == Limits(
        requests=6, streams=2
    )
    accounts.add(office.owner, "acme")
    key, _ = accounts.add_key(office.owner, "acme")
    assert accounts.limit_key(office.owner, key.id, Limits(requests=2)).limits == Limits(requests=2)
    assert accounts.limit_key(office.owner, key.id, Limits(requests=0)).limits == Limits()
    with pytest.raises(BadInput):
        accounts.change(office.owner, "acme", limits=Limits(tokens=0))  # every account has one
    with pytest.raises(BadInput):
        organisations.change(office.owner, "globex", Limits(money=2**53))
    with pytest.raises(AlreadyExists):
        organisations.add(office.owner, "globex")
    with pytest.raises(NoSuchOrganisation):
        organisations.find("initech")
    with pytest.raises(NotPermitted):
        organisations.change_total(office.add("ada", "auditor"), Limits(streams=1))


def test_an_organisation_or_total_that_was_altered_lets_nobody_in(
    office: Office, accounts: Accounts, organisations: Organisations
) -> None:
    organisations.add(office.owner, "globex", limits=Limits(money=5))
    organisations.change_total(office.owner, Limits(tokens=10**6))
    accounts.add(office.owner, "acme", org="globex")
    _, shown = accounts.add_key(office.owner, "acme")
    for stored in list(office.records.scan("deed")):
        if stored.key.startswith(("org:", "total/")):
            settle(office.records, "deed", put={stored.key: stored.document + b" "})
    roster = organisations.complete(accounts.roster(1, ()), FREE)
    assert roster.total == Limits(requests=1, streams=1, tokens=1)
    caller = Book(roster).identify(b"Bearer " + shown.reveal())
    assert not caller.account.active  # type: ignore[union-attr]


def test_an_account_from_before_these_limits_is_read(office: Office, deeds: Deeds, accounts: Accounts) -> None:
    old = {
        "created": "2026-01-01T00:00:00.000Z",
        "format": "strongroom/account@1",
        "name": "acme",
        "rpm": 7,
        "status": "active",
        "tokens_per_day": 900,
    }
    deeds.enter(office.owner, "account:acme", old, why="test")  # type: ignore[arg-type]
    found = accounts.find("acme")
    assert (found.rpm, found.tier, found.org, found.limits) == (7, "standard", "", Limits(requests=7, tokens=900))
