"""What `strongroom up` and its commands need of a home: customers, budgets, marks, and where the processes meet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.access.deeds import Deeds
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import encode
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.housekeys import HOUSE_KEYS, MARK_MASTER, HouseKeys
from strongroom.serving.accounts import SERVING, Accounts
from strongroom.serving.books import Books
from strongroom.serving.organisations import Organisations
from strongroom.serving.quotas import Limits, Prices
from strongroom.serving.recalls import Recalls
from strongroom.serving.roster import Roster
from strongroom.watermark.register import Register
from strongroom.wiring.home import Home

SPOOL: Final = "usage"  # in the home: the gateways' usage lines
SHARES: Final = "shares.jsonl"  # in the run folder: what gateways hold of limits that are not of a day
RUN: Final = "run"  # in the home: what a running `up` says of itself


_VEIL: Final = encode(["strongroom/veil@1"])
_VEIL_BYTES: Final = 32


def veil_of(master: Secret) -> Secret:
    """Return what keys the softening of answers: 32 bytes by HKDF-SHA-256 (RFC 5869) of the marks' master secret.

    The same in every gateway and after every start, for noise that changes is noise that repeats average away.
    """
    return Secret(HKDF(SHA256(), _VEIL_BYTES, salt=None, info=_VEIL).derive(master.reveal()))


@dataclass(frozen=True, slots=True)
class Serving:
    """The serving side of an open home."""

    home: Home
    accounts: Accounts
    books: Books
    housekeys: HouseKeys
    organisations: Organisations
    recalls: Recalls

    def roster(self, version: int, models: tuple[str, ...]) -> Roster:
        """Return what gateways judge by, as of now."""
        settings = self.home.settings.serving
        prices = Prices(prompt=settings.prompt_price, answer=settings.answer_price)
        return self.organisations.complete(self.accounts.roster(version, models), prices)

    def configured(self) -> dict[str, dict[str, Limits]]:
        """Return which limits stand over each live key, as the deeds have them: by key, and by scope and name."""
        found: dict[str, dict[str, Limits]] = {}
        total = {"total/": self.organisations.total()}
        standings = self.accounts.keys()
        for key in [one.key for one in standings]:
            account = self.accounts.find(key.account)
            if key.status == "live" and account.status == "active":
                own = {f"key/{key.id}": key.limits, f"account/{account.name}": account.limits}
                org = {f"org/{account.org}": self.organisations.find(account.org).limits} if account.org else {}
                found[key.id] = total | own | org
        return found

    @property
    def spool(self) -> Path:
        """Where gateways write usage lines."""
        return self.home.path / SPOOL

    def master(self, who: Identity, question: Question) -> Secret:
        """Return the secret that all mark keys are derived from, once `who` may have it and the ledger says so."""
        return self.housekeys.obtain(who, MARK_MASTER, question)

    def register(self, master: Secret) -> Register:
        """Return the register of mark keys."""
        return Register(self.home.journal, master)


def serving_of(home: Home) -> Serving:
    """Return the serving side of `home`."""
    deeds = Deeds(home.records, home.journal, home.desk, series=SERVING, home=home.id)
    return Serving(
        home=home,
        accounts=Accounts(deeds, home.journal),
        books=Books(home.records),
        housekeys=HouseKeys(home.desk, home.journal, home.vault.registry),
        organisations=Organisations(deeds, home.clock),
        recalls=Recalls(deeds, home.clock),
    )


def rewrap(home: Home, who: Identity, name: CheckpointName | None = None) -> tuple[int, list[str]]:
    """Bring all envelopes in line with people and policy: checkpoints', or those of `name`, and the house's keys."""
    changed, beyond = home.vault.rewrap(who, name)
    if name is None:
        housekeys = HouseKeys(home.desk, home.journal, home.vault.registry)
        changed += sum(housekeys.rewrap(who, key) for key in HOUSE_KEYS)
    return changed, beyond
