"""What issuing and receiving copies need: a home's premises, whoever marks, whoever measures, a folder of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.deeds import Deeds
from strongroom.access.identity import Identity
from strongroom.core.errors import BadInput
from strongroom.custody.copies import Copies, Premises
from strongroom.custody.housekeys import HouseKeys
from strongroom.custody.issue import Issuer, Measure
from strongroom.custody.receive import Shelf
from strongroom.custody.recipients import COPIES, RECIPIENTS, Recipients
from strongroom.lineage.codes import Design
from strongroom.ports.blobs import Blobs
from strongroom.wiring.home import Home
from strongroom.wiring.marks import HouseMarks, measured
from strongroom.wiring.table import load

TOKENS: Final = 100_000  # that perplexity is measured on, if nothing else is asked for


@dataclass(frozen=True, slots=True)
class Measuring:
    """On how many tokens perplexity is measured (0: not at all), and of which texts (None: those that are shipped)."""

    tokens: int = TOKENS
    texts: Path | None = None


def premises_of(home: Home) -> Premises:
    """Return what of `home` issuing and releasing need."""
    recipients = Deeds(home.records, home.journal, home.desk, series=RECIPIENTS, home=home.id)
    copies = Deeds(home.records, home.journal, home.desk, series=COPIES, home=home.id)
    return Premises(
        home=home.id,
        desk=home.desk,
        journal=home.journal,
        vault=home.vault,
        housekeys=HouseKeys(home.desk, home.journal, home.vault.registry),
        recipients=Recipients(recipients),
        copies=Copies(copies, home.journal),
        folder=_files(),
    )


def issuer_of(home: Home, who: Identity, measuring: Measuring) -> Issuer:
    """Return whoever issues copies of the checkpoints of `home` for `who`."""
    premises, asked = premises_of(home), home.settings.lineage
    design = Design(asked.recipients, asked.colluders)
    marks = HouseMarks(premises.housekeys, who, premises.copies, design=design)
    return Issuer(premises, marks, measure=measure_of(measuring))


def measure_of(measuring: Measuring) -> Measure | None:
    """Return whoever measures what a mark costs, or None where nothing is to be measured."""
    return measured(measuring.tokens, measuring.texts) if measuring.tokens else None


@contextmanager
def shelf_at(folder: Path) -> Generator[Shelf]:
    """Yield the copy in `folder`, whatever the folder is called; it is opened once, so that nothing is swapped in.

    Raises:
        BadInput: there is no such folder.

    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"no folder that can be read ({error.strerror})", where=str(folder)) from None
    try:
        yield Shelf(_files()(Path("/proc/self/fd")), str(descriptor))
    finally:
        os.close(descriptor)


def _files() -> Callable[[Path], Blobs]:
    """Return what opens a store of folders on this machine's disk: copies go there and come from there."""
    return load("blobs", "file")
