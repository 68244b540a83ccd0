"""The settings of a home, ``strongroom.toml``: every key typed, unknown keys refused."""

from __future__ import annotations

from typing import Literal

import msgspec

from strongroom.core.errors import BadSettings


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class LedgerSettings(_Section, frozen=True):
    """[ledger]: where the log is, and who else has seen it."""

    store: str = "sqlite:ledger/log.sqlite3"  # URL of the log's store; its path lies under the home
    witness: str = ""  # folder of a witness outside the home: every command shows it the log, before and after


class RecordsSettings(_Section, frozen=True):
    """[records]: where people, requests and the registry are."""

    store: str = "sqlite:records.sqlite3"


class CustodySettings(_Section, frozen=True):
    """[custody]: where sealed payloads are."""

    store: str = "file:sealed"


class AccessSettings(_Section, frozen=True):
    """[access]: how long things last."""

    session_minutes: int = 480  # a session of `access login` ends after this
    approval_hours: int = 24  # a request expires after this
    sole_owner_delay_hours: int = 24  # a sole owner's policy change takes effect no sooner


class ServingSettings(_Section, frozen=True):
    """[serving]: how `strongroom up` serves."""

    host: str = "127.0.0.1"  # where the gateway listens; put a TLS proxy before it to serve others than this machine
    foreign_engine: Literal["serve", "refuse"] = "serve"  # an engine by --engine URL can't mark: serve unmarked, or not
    open_engine: Literal["serve", "refuse"] = "refuse"  # an engine by --engine URL that answers without a key
    usage_seconds: int = 5  # how often the worker brings usage into the ledger


class LineageSettings(_Section, frozen=True):
    """[lineage]: whom the codes of a checkpoint's copies are made for. The first copy of a version settles it."""

    recipients: int = 1000  # copies of a checkpoint among whom the guilty are found
    colluders: int = 5  # who together can't hide: the code's length grows with the square


class LogSettings(_Section, frozen=True):
    """[log]: the program's own diagnostics on standard error, not the ledger."""

    level: Literal["debug", "info", "warning", "error"] = "warning"


class Settings(_Section, frozen=True):
    """The whole file."""

    ledger: LedgerSettings = LedgerSettings()
    records: RecordsSettings = RecordsSettings()
    custody: CustodySettings = CustodySettings()
    access: AccessSettings = AccessSettings()
    serving: ServingSettings = ServingSettings()
    lineage: LineageSettings = LineageSettings()
    log: LogSettings = LogSettings()


# Who can edit the file can change these: so only within bounds that keep the guards guards.
_BOUNDS = {
    ("access", "session_minutes"): (1, 7 * 24 * 60),
    ("access", "approval_hours"): (1, 7 * 24),
    ("access", "sole_owner_delay_hours"): (24, 365 * 24),
    ("serving", "usage_seconds"): (1, 3600),
    ("lineage", "recipients"): (2, 1_000_000),
    ("lineage", "colluders"): (1, 12),
}


def parse(text: str, *, where: str) -> Settings:
    """Read the text of a ``strongroom.toml``.

    Raises:
        BadSettings: it is not TOML, has an unknown key, or a value of the wrong type or out of range.

    """
    try:
        settings = msgspec.toml.decode(text.encode(), type=Settings)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadSettings(str(error)[:300], where=where) from None
    for (section, key), (least, most) in _BOUNDS.items():
        if not least <= getattr(getattr(settings, section), key) <= most:
            raise BadSettings(f"{section}.{key} must be from {least} to {most}", where=where)
    return settings
