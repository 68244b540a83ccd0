"""Issuing: a copy of a checkpoint, marked for one recipient, encrypted to their key, approved by two people.

The order is what matters: decide → mark → encrypt beside the destination → read the mark back from what was encrypted →
deed durable in the ledger → rename into place. So no copy leaves unmarked or unrecorded (rule 1), and nothing plaintext
is written (rule 2).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec

from strongroom.access.desk import Grant, Matter
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, NotPermitted
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.companions import check_companions
from strongroom.custody.copies import ISSUE, ISSUED, Premises, copy_id
from strongroom.custody.copy_formats import (
    COPY,
    COPY_SIGNATURE,
    COPY_TYPE,
    DEFAULT_LICENCE,
    PURPOSE_LIMIT,
    Copy,
    CopyIssuer,
    CopyMark,
    CopyRecipient,
    CopySignature,
    CopyTerms,
    IssuedCopy,
    check_licence,
    destination,
    read_day,
    sealed_and_beside,
)
from strongroom.custody.failures import failures
from strongroom.custody.formats import MANIFEST, SIGNATURE, SealedFile, pae
from strongroom.custody.housekeys import RELEASE_MASTER
from strongroom.custody.judge import Expected
from strongroom.custody.keys import new_data_key, wrap_key
from strongroom.custody.landing import check_destination, check_place, held_folder, landing, partial_name, take_place
from strongroom.custody.marked import MarkedReader, ReaderPlan, ReaderTensors
from strongroom.custody.pipeline import Cover, Options, put_manifest, seal_files
from strongroom.custody.read import Progress, Reader, SealedReader
from strongroom.custody.recipients import Recipient
from strongroom.custody.registry import Registered, subject
from strongroom.custody.release import commitment, derive_share, released_key
from strongroom.ledger.journal import Act, Detail
from strongroom.ports.blobs import Blob, Stage
from strongroom.ports.marks import Mark, MarkReport, Marks, PerplexityCost

Measure = Callable[[Reader, Reader, Progress | None], PerplexityCost]
"""What tells, of the original and the finished copy, what the mark costs; both stay their owner's."""

Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""Who is told of progress: called with what begins, in words."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be issued to whom; days as ``YYYY-MM-DD``, in UTC."""

    recipient: str
    out: Path
    purpose: str
    licence: str = DEFAULT_LICENCE
    embargo: str | None = None
    expires: str | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """An order that was looked at: everything that the approver signs, resolved."""

    who: Identity
    record: Registered
    order: Order
    recipient: Recipient
    target: Path

    @property
    def destination(self) -> str:
        """What is approved, in one line."""
        order = self.order
        return destination(
            self.to, licence=order.licence, embargo=order.embargo, expires=order.expires, path=self.target
        )

    @property
    def to(self) -> CopyRecipient:
        """The recipient, as a copy names them."""
        one = self.recipient
        return CopyRecipient(name=one.name, kind=one.kind, key=one.keys.fingerprint())


@dataclass(frozen=True, slots=True)
class _Keys:
    """What a copy is encrypted with: the data key, what its envelope holds, and which share goes with it."""

    data: Secret
    wrapped: Secret
    share: str | None

    def close(self) -> None:
        """Wipe both."""
        self.data.wipe()
        self.wrapped.wipe()


@dataclass(frozen=True, slots=True)
class _Draft:
    """A copy in the making: its id, its stage, and who asked for it."""

    copy: str
    created: str
    job: _Job
    stage: Stage
    keys: _Keys


def _unwatched(_what: str) -> AbstractContextManager[Progress | None]:
    return nullcontext()


class Issuer:
    """Whoever issues copies of one home's checkpoints."""

    def __init__(
        self, premises: Premises, marks: Marks, *, measure: Measure | None = None, options: Options | None = None
    ) -> None:
        """Mark with `marks`; without `measure` nothing is said of what the mark costs."""
        self._premises = premises
        self._marks = marks
        self._measure = measure
        self._options = options or Options()

    def issue(self, who: Identity, name: CheckpointName, order: Order, *, watch: Watch = _unwatched) -> IssuedCopy:
        """Issue a copy of `name`, once a second person has approved exactly this `order`.

        An issue that is cut off is not resumed: it is begun anew, under another id, with an approval of its own.

        Raises:
            ApprovalNeeded: a request is left; its id is in ``where``.
            NotPermitted: the policy does not let `who` issue, or lets them do it alone.
            NoSuchRecipient: nobody of that name receives copies.
            AlreadyExists: something stands at the destination; nothing is asked of anybody then.
            BadInput: the order makes no sense, or a file of the checkpoint may not leave without a mark.
            MarkTooWeak: the mark can't be read back from the copy, so it does not leave.
            LedgerUnavailable: the ledger can't be written, so it does not leave (rule 1).

        """
        question = Question(ISSUE, name, order.purpose)
        desk, journal = self._premises.desk, self._premises.journal
        desk.require(who, question, alone=False)
        desk.require(who, Question("lineage.decode", purpose=order.purpose))  # the right to sign its deed
        act = Act(who.label, ISSUED, subject(name), order.purpose)
        with failures(journal, act):
            if not desk.may(who, question):  # whatever the policy says: a deed without an approval does not count
                raise NotPermitted("a copy takes a second person, and the policy asks for none", where=subject(name))
            job = self._job(who, name, order)
        if order.embargo:
            desk.require(who, Question("custody.release", purpose=order.purpose))
        grant = desk.demand(who, question, Matter(digest=job.record.manifest, destination=job.destination))
        detail: Detail = {"digest": job.record.manifest, "destination": job.destination, "request": grant.request}
        with failures(journal, act, detail):
            issued = self._issue(grant, job, watch)
        told: Detail = {**detail, "copy": issued.copy, "recipient": issued.recipient.name, "path": issued.path}
        journal.record(act, "done", detail=told)
        return issued

    # ── before anybody is asked ──────────────────────────────────────────────────────────────────────────────────────
    def _job(self, who: Identity, name: CheckpointName, order: Order) -> _Job:
        """Look at the order: is there such a checkpoint, such a recipient, room at the place, and sense in the days?"""
        record = self._premises.vault.registry.current(name)
        recipient = self._premises.recipients.find(order.recipient)
        check_licence(order.licence)
        self._check_days(order)
        if not 0 < len(order.purpose) <= PURPOSE_LIMIT:
            raise BadInput(f"a purpose has 1 to {PURPOSE_LIMIT} characters", where="purpose")
        target = check_destination(order.out, outside=self._premises.vault.inside)
        return _Job(who, record, order, recipient, target)

    def _check_days(self, order: Order) -> None:
        now = self._premises.journal.now()
        opens = None if order.embargo is None else read_day(order.embargo, what="embargo")
        ends = None if order.expires is None else read_day(order.expires, what="expires")
        if opens is not None and opens <= now:
            raise BadInput("an embargo ends in the future", where="embargo")
        if ends is not None and ends <= max(now, opens or now):
            raise BadInput("a copy expires in the future, and after its embargo", where="expires")

    # ── after the grant ──────────────────────────────────────────────────────────────────────────────────────────────
    def _issue(self, grant: Grant, job: _Job, watch: Watch) -> IssuedCopy:
        copy = copy_id(grant.request)
        with closing(self._premises.vault.unlocked(grant, job.record)) as source:
            check_companions(source.contents.files)  # before a key is drawn, or anything is written
            with closing(self._keys(job, copy)) as keys, landing(job.target, what="copy") as parent:
                with watch("finding the mark's place") as progress:
                    mark = self._marks.prepare(job.record.checkpoint, copy, ReaderTensors(source), progress=progress)
                with self._staged(parent, job.target, copy) as (stage, held_in):
                    created = stamp(self._premises.journal.clock.now())
                    draft = _Draft(copy=copy, created=created, job=job, stage=stage, keys=keys)
                    files, manifest = self._seal(draft, MarkedReader(source, mark), watch)
                    report, cost = self._read_back(draft, (files, manifest), source=source, mark=mark, watch=watch)
                    document = _document(draft, manifest, mark=_mark(mark, report), cost=cost, home=self._premises.home)
                    _publish(draft, document, files)
                    self._premises.desk.require(  # all that took long: may they still?
                        job.who, Question(ISSUE, job.record.title, job.order.purpose), alone=False
                    )
                    issued = self._deed(document, job, request=grant.request, log10_p=report.log10_p)
                    self._premises.copies.enter(job.who, issued)
                    check_place(parent, job.target.parent)
                    take_place(copy, job.target, parent, held_in=held_in)
                    os.fsync(parent)
            return issued

    def _keys(self, job: _Job, copy: str) -> _Keys:
        """Draw the copy's keys; under an embargo, the data key needs the release share as well."""
        wrapped, embargo = new_data_key(), job.order.embargo
        if embargo is None:
            return _Keys(Secret(wrapped.reveal()), wrapped, None)
        try:
            share = self._share(job, embargo)
            try:
                named = commitment(share)
                return _Keys(released_key(wrapped, share, copy), wrapped, named)
            finally:
                share.wipe()
        except BaseException:
            wrapped.wipe()
            raise

    def _share(self, job: _Job, embargo: str) -> Secret:
        """Return the release share of the version and the day; the master that it is derived from is wiped."""
        question = Question("custody.release", purpose=f"a copy of {job.record.title} under {embargo}")
        master = self._premises.housekeys.obtain(job.who, RELEASE_MASTER, question)
        try:
            return derive_share(master, job.record.checkpoint, embargo)
        finally:
            master.wipe()

    @contextmanager
    def _staged(self, parent: int, target: Path, copy: str) -> Generator[tuple[Stage, int]]:
        """Yield a stage in a private folder beside the destination, and that folder's descriptor."""
        with (
            held_folder(partial_name(target), parent) as held_in,
            closing(self._premises.folder(Path(f"/proc/self/fd/{held_in}")).stage(copy)) as stage,
        ):
            yield stage, held_in

    def _seal(self, draft: _Draft, marked: Reader, watch: Watch) -> tuple[list[SealedFile], bytes]:
        """Encrypt what `marked` reads onto the stage; return files and manifest."""
        record = draft.job.record
        cover = Cover(
            checkpoint=draft.copy,
            name=record.title,
            version=record.version,
            parent=record.checkpoint,
            created=draft.created,
            segment=self._options.segment,
        )
        with watch(f"issuing {record.title}") as progress:
            options = Options(segment=cover.segment, threads=self._options.threads, progress=progress)
            files = seal_files(draft.stage, ReaderPlan(marked), cover=cover, data_key=draft.keys.data, options=options)
        return files, put_manifest(draft.stage, files, cover=cover, keyring=draft.job.who.keyring)

    def _read_back(
        self, draft: _Draft, staged: tuple[list[SealedFile], bytes], *, source: Reader, mark: Mark, watch: Watch
    ) -> tuple[MarkReport, PerplexityCost | None]:
        """Find the mark in what was encrypted, and what it costs: neither is believed of the stream."""
        files, manifest = staged
        record, who = draft.job.record, draft.job.who
        expected = Expected(
            checkpoint=draft.copy,
            name=record.title,
            version=record.version,
            manifest=hashlib.sha256(manifest).hexdigest(),
            signer=who.name,
            key=who.keyring.public,
        )
        shelf = _Staged(draft.stage, [*(file.name for file in files), MANIFEST, SIGNATURE])
        with closing(SealedReader(shelf, draft.copy, expected=expected, data_key=draft.keys.data)) as copy:
            with watch("reading the mark back") as progress:
                report = mark.read_back(ReaderTensors(copy), progress)
            if self._measure is None:
                return report, None
            known = self._premises.copies.measured(record.checkpoint, _mark(mark, report))
            if known is not None:
                return report, known
            with watch("measuring what the mark costs") as progress:
                cost = self._measure(source, copy, progress)
            return report, msgspec.structs.replace(cost, measured_on=draft.copy)

    def _deed(self, document: Copy, job: _Job, *, request: str, log10_p: float) -> IssuedCopy:
        """Return what the ledger is told of the copy."""
        terms = {name: getattr(document, name) for name in CopyTerms.__struct_fields__}
        return IssuedCopy(
            **terms,
            request=request,
            host=self._premises.journal.host,
            path=str(job.target),
            log10_p=log10_p,
            digest=hashlib.sha256(encode(document)).hexdigest(),
        )


class _Staged:
    """The stage of a copy as a folder that a reader opens."""

    def __init__(self, stage: Stage, names: Sequence[str]) -> None:
        self._stage = stage
        self._names = names

    def names(self, folder: str) -> Sequence[str] | None:
        del folder
        return self._names

    def open(self, folder: str, name: str) -> Blob | None:
        del folder
        return self._stage.open(name)


def _mark(mark: Mark, report: MarkReport) -> CopyMark:
    return CopyMark(
        scheme=report.scheme,
        commitment=mark.commitment,
        segments=report.segments,
        units=report.units,
        share=report.share,
        alpha=report.alpha,
        retained=report.retained,
    )


def _document(draft: _Draft, manifest: bytes, *, mark: CopyMark, cost: PerplexityCost | None, home: str) -> Copy:
    """Return what copy.json says."""
    job, record, to = draft.job, draft.job.record, draft.job.recipient
    return Copy(
        copy=draft.copy,
        home=home,
        checkpoint=record.checkpoint,
        name=record.name,
        tag=record.tag,
        version=record.version,
        recipient=job.to,
        licence=job.order.licence,
        purpose=job.order.purpose,
        issued=draft.created,
        embargo=job.order.embargo,
        expires=job.order.expires,
        share=draft.keys.share,
        manifest=hashlib.sha256(manifest).hexdigest(),
        issuer=CopyIssuer(name=job.who.name, keys=job.who.keyring.public),
        mark=mark,
        perplexity=cost,
        envelope=wrap_key(draft.keys.wrapped, to.keys, person=to.name, checkpoint=draft.copy, version=record.version),
    )


def _publish(draft: _Draft, document: Copy, files: list[SealedFile]) -> None:
    """Make the folder whole and durable, in its private place beside the destination.

    Raises:
        BadInput: the document breaks its own rules, by what the mark says of itself: no recipient could read it.

    """
    keyring, raw = draft.job.who.keyring, encode(document)
    decode(raw, Copy, where=COPY)
    signature = CopySignature(signer=keyring.name, signature=keyring.sign(pae(COPY_TYPE, raw)))
    draft.stage.put(COPY, raw)
    draft.stage.put(COPY_SIGNATURE, encode(signature))
    draft.stage.publish(draft.copy, sealed_and_beside([file.name for file in files]))
