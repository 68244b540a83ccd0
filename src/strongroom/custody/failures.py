"""What goes wrong after a grant is in the ledger too: tampering above all."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from strongroom.core.errors import StrongroomError
from strongroom.ledger.journal import Act, Detail, Journal


@contextmanager
def failures(journal: Journal, act: Act, detail: Detail | None = None) -> Generator[None]:
    """Enter into the ledger behind `journal` that `act` failed, and why, if it does; the error goes on."""
    try:
        yield
    except StrongroomError as error:
        said: Detail = {**(detail or {}), "code": error.code, "at": error.where}
        journal.record_failure(act, "failed", detail=said)
        raise
