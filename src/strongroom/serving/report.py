"""An account as its operator sees it."""

from __future__ import annotations

import msgspec

from strongroom.serving.accounts import Accounts
from strongroom.serving.books import Books
from strongroom.serving.quotas import Limits, budget_id


class KeyReport(msgspec.Struct, frozen=True):
    """A key, without what would be of use to anybody."""

    id: str
    status: str
    created: str
    limits: Limits
    terms_accepted: bool | None  # those in force; None: there are none


class AccountReport(msgspec.Struct, frozen=True):
    """An account: limits, keys, and what of today's tokens is used or in a gateway's hands."""

    name: str
    status: str
    tier: str
    rpm: int
    tokens_per_day: int
    tokens_today: int
    org: str
    limits: Limits
    money_today: int  # billionths
    embeddings_today: int
    created: str
    keys: list[KeyReport]


def report(accounts: Accounts, books: Books, name: str, *, day: str) -> AccountReport:
    """Return the account `name` as of the UTC `day`.

    Raises:
        NoSuchAccount: there is none of that name.

    """
    account, wanted = accounts.find(name), accounts.terms_digest()
    return AccountReport(
        name=account.name,
        status=account.status,
        tier=account.tier,
        rpm=account.rpm,
        tokens_per_day=account.tokens_per_day,
        tokens_today=books.spent(budget_id("tokens", "account", name), day),
        org=account.org,
        limits=account.limits,
        money_today=books.spent(budget_id("money", "account", name), day),
        embeddings_today=books.spent(budget_id("embeddings", "account", name), day),
        created=account.created,
        keys=[
            KeyReport(
                one.key.id, one.key.status, one.key.created, one.key.limits, one.accepted == wanted if wanted else None
            )
            for one in accounts.keys(name)
        ],
    )
