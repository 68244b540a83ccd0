"""Trace a suspect through a home: its registry, its public bases, every copy that it ever issued."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import Record, digest
from strongroom.core.ids import CheckpointName
from strongroom.custody.copy_formats import IssuedCopy
from strongroom.custody.marked import MarkedReader, ReaderTensors
from strongroom.custody.registry import SEALED, Registered
from strongroom.custody.vault import Purpose
from strongroom.ledger.events import Receipt
from strongroom.ledger.journal import Act, Detail
from strongroom.lineage.ancestry import Base, Opener
from strongroom.lineage.bank import bank_digest, null_bank
from strongroom.lineage.bases import Bases, PublicBase, check_unchanged, must_be_there
from strongroom.lineage.mark import WeightMarks
from strongroom.lineage.model import Model, model_of
from strongroom.lineage.signature import sign, tensor_digests
from strongroom.lineage.trace import Decoded as Marks
from strongroom.lineage.trace import Known, Registry, trace
from strongroom.lineage.traced import Evidence, RecipientFound, conclude
from strongroom.ports.marks import Tensors
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import Home
from strongroom.wiring.lineage import Case, Decoded, decode_copies
from strongroom.wiring.signatures import Signatures, opened_model
from strongroom.wiring.suspects import digest_of, open_suspect, vocabulary_of

Watch = Callable[[str], None]

TRACED: Final = "lineage.trace"
_PURPOSE: Final = "trace a suspect"


Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class TracedCheckpoint(Record, frozen=True, kw_only=True):
    """The checkpoint that was found."""

    name: Annotated[str, msgspec.Meta(max_length=400)]
    version: Annotated[int, msgspec.Meta(ge=1)]
    manifest: Digest
    weights: Digest  # of the digests of its tensors (`weights_digest`): whoever has its files can compare them


class ConsideredBase(Record, frozen=True, kw_only=True):
    """A public base as it was registered when a file was traced: a newer one of that name would be another."""

    name: Annotated[str, msgspec.Meta(max_length=200)]
    digest: Digest  # of the digests of its tensors


class Figures(Record, frozen=True, kw_only=True):
    """All that a trace found. The ledger's entry of it holds the digest of this: nothing is changed afterwards."""

    suspect: Digest
    vocabulary: Digest | None  # of the suspect's tokens (`vocabulary_of`)
    bank: Digest
    bases: Annotated[tuple[ConsideredBase, ...], msgspec.Meta(max_length=10_000)]  # all that were registered, by name
    evidence: Evidence  # the verdict is `lineage.traced.conclude` of it
    checkpoint: TracedCheckpoint | None  # of the verdict
    commitments: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=100)]  # of the marks of the copies named


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace, what marks were read in it, and where in the ledger it stands."""

    figures: Figures
    decoded: Decoded | None  # of the checkpoint that was found
    sealed: int | None  # entry by which the checkpoint's version counts
    receipt: Receipt  # of the trace's own entry

    @property
    def evidence(self) -> Evidence:
        """What the verdict is made of."""
        return self.figures.evidence

    @property
    def suspect(self) -> str:
        """The suspect's digest."""
        return self.figures.suspect


def trace_file(home: Home, who: Identity, path: Path, *, watch: Watch) -> Traced:
    """Say which checkpoint of `home` the file or folder at `path` was made from, and whose copy it is.

    Question and answer are in the ledger, and every checkpoint that had to be opened.

    Raises:
        NotPermitted: the policy does not let `who` ask, or open what must be compared.
        BadInput: the file can't be read as weights; a public base is not where it was.

    """
    home.desk.require(who, Question("lineage.decode", purpose=_PURPOSE))
    with open_suspect(path, partial=True) as suspect, ExitStack() as stack:
        suspected, vocabulary = digest_of(path), vocabulary_of(suspect)
        signatures = Signatures(home, who)
        records = {str(one.title): one for one in home.vault.registry.all()}
        known: list[Known] = []
        for number, (name, record) in enumerate(records.items(), 1):
            watch(f"reading signatures ({number} of {len(records)})")
            known.append(Known(name, signatures.of(record), _opener(home, who, CheckpointName.parse(name))))
        public = bases_of(home).all()
        bases = [Base(one.name, _base_opener(one)) for one in public]
        copies = _HouseCopies(home, who, signatures, stack=stack)
        found = trace(suspect, Registry(known, bases, null_bank()), copies=copies, watch=watch)
    named = conclude(found).checkpoint
    decoded = copies.found.get(found.checkpoint or "")
    figures = Figures(
        suspect=suspected,
        vocabulary=vocabulary,
        bank=bank_digest(null_bank()),
        bases=tuple(ConsideredBase(name=one.name, digest=one.digest) for one in public),
        evidence=found,
        checkpoint=next((_described(records[one.name], one) for one in known if one.name == named), None),
        commitments=_commitments(found.recipient, decoded),
    )
    sealed = _sealing(home, records[named]) if named else None
    return Traced(figures, decoded, sealed, _record(home, who, figures))


def compare_files(ours: Path, theirs: Path, *, watch: Watch) -> Evidence:
    """Trace the suspect `theirs` to the model `ours`, both files or folders: no home is asked."""
    with open_suspect(ours, partial=True) as source, open_suspect(theirs, partial=True) as suspect:
        model = model_of(source, source.tokens())
        known = Known(str(ours), sign(model), lambda: nullcontext(model))
        return trace(suspect, Registry([known], [], null_bank()), watch=watch)


def weights_digest(tensors: Mapping[str, str]) -> str:
    """Return the digest by which a report names a checkpoint's weights, of the digests of its tensors."""
    return digest(dict(tensors))


def named_copies(recipient: RecipientFound) -> list[str]:
    """Return the copies that a trace names."""
    return [one.copy for one in recipient.colluders] or ([recipient.copy] if recipient.copy else [])


def bases_of(home: Home) -> Bases:
    """Return the public bases that a home knows."""
    return Bases(home.desk, home.journal, home=home.id)


def add_base(home: Home, who: Identity, name: str, *, path: Path) -> PublicBase:
    """Name a public base that checkpoints may descend from.

    Raises:
        BadInput: `path` holds no weights.

    """
    with open_suspect(path) as weights:
        return bases_of(home).add(who, name, path, tensors=tensor_digests(weights))


def _opener(home: Home, who: Identity, name: CheckpointName) -> Opener:
    return lambda: opened_model(home, who, home.vault.registry.current(name), why=_PURPOSE)


def _base_opener(base: PublicBase) -> Opener:
    @contextmanager
    def opened() -> Generator[Model]:
        must_be_there(base)
        with open_suspect(base.path) as weights:
            check_unchanged(base, tensor_digests(weights))
            yield model_of(weights, weights.tokens())

    return opened


class _HouseCopies:
    """Reads the marks of every copy that a home issued (`lineage.trace.Copies`)."""

    def __init__(self, home: Home, who: Identity, signatures: Signatures, *, stack: ExitStack) -> None:
        """Open named copies, for as long as `stack` is open."""
        self._home, self._who, self._signatures, self._stack = home, who, signatures, stack
        self._every = premises_of(home).copies.all()
        self.found: dict[str, Decoded] = {}

    def decode(self, known: Known, source: Model, aligned: Tensors) -> Marks | None:
        """Return whose copy the aligned suspect is, or None where no copy was ever issued."""
        title = CheckpointName.parse(known.name)
        current = self._home.vault.registry.current(title).checkpoint
        case = Case(
            self._signatures.master, aligned, source.weights, current, self._every, lambda _what: nullcontext(None)
        )
        best = decode_copies(case, title)
        if best is None:
            return None
        self.found[known.name] = best
        return Marks(RecipientFound.of(best.verdict), self._copy(best, current=current))

    def _copy(self, best: Decoded, *, current: str) -> Tensors | None:
        """Return the weights of the one copy that is named, made again from the current version."""
        copy = best.copies.get(best.verdict.copy or "")
        if copy is None or best.verdict.colluders or copy.checkpoint != current:
            return None
        purpose = Purpose(_PURPOSE, {"for": "lineage", "copy": copy.copy})
        reader = self._stack.enter_context(self._home.vault.open(self._who, copy.title, purpose))
        marks = WeightMarks(self._signatures.master, _segments(copy))
        return ReaderTensors(MarkedReader(reader, marks.prepare(copy.checkpoint, copy.copy, ReaderTensors(reader))))


def _segments(copy: IssuedCopy) -> Callable[[str], int]:
    return lambda _checkpoint: copy.mark.segments


def _described(record: Registered, known: Known) -> TracedCheckpoint:
    return TracedCheckpoint(
        name=known.name,
        version=record.version,
        manifest=record.manifest,
        weights=weights_digest(known.signature.digests),
    )


def _sealing(home: Home, record: Registered) -> int:
    """Return the entry by which a version counts: its number was claimed, so there is no second."""
    every = home.vault.registry.history(record.title)
    return next(
        one.index for one in every if one.event.action == SEALED and one.event.detail.get("version") == record.version
    )


def _commitments(recipient: RecipientFound, decoded: Decoded | None) -> tuple[str, ...]:
    if decoded is None or recipient.verdict != "match":
        return ()
    return tuple(decoded.copies[copy].mark.commitment for copy in named_copies(recipient))


def _record(home: Home, who: Identity, figures: Figures) -> Receipt:
    """Enter a trace: what was found, by its digest, and whose key its report is signed by."""
    found = conclude(figures.evidence)
    detail: Detail = {
        "verdict": found.verdict,
        "suspect": figures.suspect,
        "figures": digest(figures),
        "key": who.keyring.public.fingerprint(),
    }
    if found.lineage is not None:
        detail |= {"method": found.lineage.method, "tried": found.lineage.tried}
    if found.recipient.verdict == "match":
        detail["copies"] = ",".join(named_copies(found.recipient))
    return home.journal.record(Act(who.label, TRACED, f"checkpoint:{found.checkpoint or '-'}"), "done", detail=detail)
