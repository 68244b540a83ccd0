"""Who is let in: pure decisions over the roster that control pushed last."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from strongroom.serving.disclosure.tiers import CLOSED, TIERS, Tier
from strongroom.serving.roster import Roster, RosterAccount, RosterKey
from strongroom.serving.wire_errors import Refusal, refuse

_BEARER: Final = b"bearer "
_LONGEST_KEY: Final = 512


class Caller(msgspec.Struct, frozen=True):
    """A live key and the account it belongs to."""

    key: RosterKey
    account: RosterAccount
    tier: Tier = CLOSED  # the account's; one that this gateway does not know shows nothing


class Book:
    """A roster, ready for look-ups. It is replaced as a whole, so no copy of a limit can outlive a change."""

    __slots__ = ("accounts", "callers", "keys", "models", "roster")

    def __init__(self, roster: Roster, *, models: tuple[str, ...] = ()) -> None:
        """Index `roster`; `models` are served in place of the roster's where there are any."""
        self.roster = roster
        self.models = models or roster.models
        self.accounts = {one.name: one for one in roster.accounts}
        self.keys = {key.id: key for key in roster.keys}
        self.callers = {
            key.digest: Caller(key, account, TIERS.get(account.tier, CLOSED))
            for key in roster.keys
            if (account := self.accounts.get(key.account)) is not None
        }

    def identify(self, authorization: bytes | None) -> Caller | Refusal:
        """Return whose key it is. The look-up is by the key's SHA-256, so its time says nothing about any key."""
        if authorization is None or authorization[:7].lower() != _BEARER:
            return refuse("missing_api_key")
        shown = authorization[7:].strip()
        if not 0 < len(shown) <= _LONGEST_KEY:
            return refuse("invalid_api_key")
        return self.callers.get(hashlib.sha256(shown).digest()) or refuse("invalid_api_key")

    def still(self, caller: Caller) -> Refusal | None:
        """Return why a caller who was let in before must go now, if so. New terms let open requests end."""
        key = self.keys.get(caller.key.id)
        if key is None or key.account != caller.account.name or key.digest != caller.key.digest:
            return refuse("invalid_api_key")
        account = self.accounts.get(key.account)
        return None if account is not None and account.active else refuse("account_inactive")


def may_ask(caller: Caller, *, terms: bool = False) -> Refusal | None:
    """Return why this caller may not use a model, if so; whoever only reads or accepts `terms` need not have yet."""
    if not caller.account.active:
        return refuse("account_inactive")
    return None if terms or caller.key.accepted else refuse("terms_not_accepted")
