"""The journeys of a checkpoint, each a short sentence: seal, open, verify, export, re-wrap.

Opening is: authenticate → decide → ledger entry durable → key → tensors decrypted as they are read. The desk does the
first three; no key leaves its envelope without the grant that it returns (rule 1).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from strongroom.access.desk import Desk, Grant, Matter
from strongroom.access.directory import Prepare
from strongroom.access.identity import Identity
from strongroom.access.keys import Keyring, PublicKeys
from strongroom.access.people import Person
from strongroom.access.policy import CheckpointAction, Question
from strongroom.core.clock import stamp
from strongroom.core.errors import (
    BadName,
    Busy,
    ConflictError,
    NoSuchCheckpoint,
    NotPermitted,
    RecordAltered,
    RefusedError,
    WrongKey,
)
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody import seal as sealing
from strongroom.custody.failures import failures
from strongroom.custody.journal import Identity as SealIdentity
from strongroom.custody.judge import Expected
from strongroom.custody.keys import rewrap_key, unwrap_key, wrap_key
from strongroom.custody.landing import check_destination
from strongroom.custody.lease import Lease, lease
from strongroom.custody.plain import write_plain
from strongroom.custody.read import Progress, SealedReader, Verified, verify
from strongroom.custody.registry import Held, Registered, Registry, subject
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.blobs import Blobs

# Whoever may do one of these holds an envelope. Owners may re-wrap, so that a person who is added later gets a key.
_KEY_ACTIONS: tuple[CheckpointAction, ...] = ("custody.open", "custody.export", "custody.issue", "custody.rewrap")


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why a checkpoint is opened, and what the ledger should say beside it (say, which program gets it)."""

    why: str
    detail: Detail


class Vault:
    """The sealed checkpoints of one home."""

    def __init__(
        self, desk: Desk, journal: Journal, registry: Registry, *, blobs: Blobs, inside: Path | None = None
    ) -> None:
        """Keep payloads in `blobs` and their records in `registry`; ask `desk` before every act.

        Nothing is exported into `inside`, the home: a backup would carry the plaintext off.
        """
        self._desk = desk
        self._journal = journal
        self._blobs = blobs
        self.inside = inside
        self.registry = registry

    # ── seal ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def seal(
        self, who: Identity, source: Path, name: CheckpointName, *, progress: Progress | None = None
    ) -> Registered:
        """Seal `source` under `name`, in place of what the tag meant before; repeat the call to go on after a crash."""
        question = Question("custody.seal", name)
        self._desk.demand(who, question, Matter(detail={"source": str(source)[:400]}))
        with failures(self._journal, Act(who.label, "custody.seal", subject(name))):
            record = self._seal(who, source, name, progress=progress)
            now = self.registry.current(name)
            if now != record and now.version <= record.version:  # disabled, or new keys, at the last moment
                raise Busy("rights or keys changed while it was being sealed: it does not count", where=str(name))
            self._rewrap(who, record)  # for whoever came in meanwhile
        return record

    def _seal(self, who: Identity, source: Path, name: CheckpointName, *, progress: Progress | None) -> Registered:
        identity = SealIdentity(
            name=name,
            version=self.registry.next_version(name),
            parent=self._parent(name),
            created=stamp(self._journal.clock.now()),
        )
        options = sealing.Options(progress=progress)
        result = sealing.seal(source, self._blobs, identity=identity, keyring=who.keyring, options=options)
        record = Registered(
            checkpoint=result.checkpoint,
            name=name.name,
            tag=name.tag,
            version=identity.version,
            manifest=result.manifest,
            signer=who.name,
            parent=identity.parent,
            created=identity.created,
            tensors=result.tensors,
            bytes=result.bytes,
            single=source.is_file(),
            host=self._journal.host,
            key=who.keyring.public.fingerprint(),
        )
        envelopes = [
            wrap_key(
                result.data_key,
                person.certificate.keys,
                person=person.name,
                checkpoint=record.checkpoint,
                version=record.version,
            )
            for person in self._holders(record)
        ]
        result.data_key.wipe()
        # sealing took long: are keys and rights still the same?
        self._desk.require(who, Question("custody.seal", name), alone=False)
        self.registry.register(record, envelopes, who=who.label)
        sealing.discard(self._blobs, name, replaced=result.replaced)
        return record

    def abandon(self, who: Identity, name: CheckpointName) -> None:
        """Throw away an unfinished sealing of `name`, whoever began it; what was sealed before stays."""
        self._desk.demand(who, Question("custody.seal", name, "abandon an unfinished sealing"))
        sealing.discard(self._blobs, name)

    def _parent(self, name: CheckpointName) -> str | None:
        try:
            return self.registry.current(name).checkpoint
        except NoSuchCheckpoint:
            return None

    # ── verify, open, export ─────────────────────────────────────────────────────────────────────────────────────────
    def verify(self, name: CheckpointName, *, who: str, progress: Progress | None = None) -> Verified:
        """Check every stored byte of `name` against the signed manifest. Needs no key."""
        act = Act(who, "custody.verify", subject(name))
        with failures(self._journal, act):
            record = self.registry.current(name)
            result = verify(self._blobs, record.checkpoint, expected=self._expected(record), progress=progress)
        self._journal.record(act, "done", detail={"digest": record.manifest, "segments": result.segments})
        return result

    @contextmanager
    def open(self, who: Identity, name: CheckpointName, purpose: Purpose) -> Generator[SealedReader]:
        """Open `name` for reading in memory, with its ledger entry durable first; whatever fails meanwhile is logged.

        Raises:
            NotPermitted: the policy says no.
            WrongKey: nobody wrapped this checkpoint to `who`.
            TamperError: the sealed folder is not what was sealed.

        """
        act, grant, record = self._granted(who, name, purpose)
        with failures(self._journal, act, {"grant": grant.index}), closing(self.unlocked(grant, record)) as reader:
            yield reader

    def release(self, who: Identity, name: CheckpointName, purpose: Purpose) -> tuple[Lease, Secret]:
        """Release the data key of `name`, and what its folder must prove to be, to a program that opens it elsewhere.

        The same right and the same ledger entry as `open`. The caller passes the key on to one engine process over a
        private link, and wipes it: whoever has it can read this version's weights for ever.

        Raises:
            NotPermitted: the policy says no.
            WrongKey: nobody wrapped this checkpoint to `who`.

        """
        act, grant, record = self._granted(who, name, purpose)
        with failures(self._journal, act, {"grant": grant.index}):
            return lease(self._expected(record)), self._key(grant, record)

    def _granted(self, who: Identity, name: CheckpointName, purpose: Purpose) -> tuple[Act, Grant, Registered]:
        """Decide, and enter the opening of `name` into the ledger: nothing is released before (rule 1)."""
        question = Question("custody.open", name, purpose.why)
        self._desk.require(who, question, alone=False)
        act = Act(who.label, "custody.open", subject(name), purpose.why)
        with failures(self._journal, act):
            record = self.registry.current(name)
        return act, self._desk.demand(who, question, Matter(digest=record.manifest, detail=purpose.detail)), record

    def export(self, who: Identity, name: CheckpointName, destination: Path, *, why: str) -> tuple[Registered, Path]:
        """Write `name` as plain files to `destination`, once a second person has approved exactly that.

        Raises:
            AlreadyExists: something stands at `destination`; nothing is asked of anybody then.
            ApprovalNeeded: a request is left; its id is in ``where``.

        """
        question = Question("custody.export", name, why)
        self._desk.require(who, question, alone=False)
        act = Act(who.label, "custody.exported", subject(name), why)
        with failures(self._journal, act):
            record = self.registry.current(name)
            target = check_destination(destination, outside=self.inside)
        grant = self._desk.demand(who, question, Matter(digest=record.manifest, destination=str(target)))
        detail: Detail = {"digest": record.manifest, "destination": str(target), "request": grant.request}
        with failures(self._journal, act, detail), closing(self.unlocked(grant, record)) as reader:
            write_plain(reader, target, single=record.single)
        self._journal.record(act, "done", detail=detail)
        return record, target

    def unlocked(self, grant: Grant, record: Registered) -> SealedReader:
        """Release the key that `grant` stands for, and open the folder with it: for whoever holds a grant (rule 1).

        Raises:
            NotPermitted: the grant is for another checkpoint.
            WrongKey: nobody wrapped this checkpoint to whom it was granted.
            TamperError: the sealed folder is not what was sealed.

        """
        key = self._key(grant, record)
        try:
            return SealedReader(self._blobs, record.checkpoint, expected=self._expected(record), data_key=key)
        finally:
            key.wipe()

    def _key(self, grant: Grant, record: Registered) -> Secret:
        """Take the data key that `grant` stands for out of its envelope."""
        if grant.question.checkpoint != record.title:
            raise NotPermitted(f"the grant is for {grant.question.checkpoint}", where=subject(record.title))
        who = grant.identity
        envelope = self.registry.envelope(record.checkpoint, who.name, who.keyring.public)
        if envelope is None:
            raise WrongKey(f"nobody wrapped this checkpoint to {who.name}", where=str(record.title))
        return unwrap_key(envelope, who.keyring, checkpoint=record.checkpoint, version=record.version)

    def _expected(self, record: Registered) -> Expected:
        """Return what the sealed folder of `record` must prove to be.

        Raises:
            RecordAltered: the signer never had the keys that the ledger names.

        """
        key = next((one for one in self._keys_of(record.signer) if one.fingerprint() == record.key), None)
        if key is None:
            raise RecordAltered(f"{record.signer} never had the keys that signed it", where=subject(record.title))
        return Expected(
            checkpoint=record.checkpoint,
            name=record.title,
            version=record.version,
            manifest=record.manifest,
            signer=record.signer,
            key=key,
            keys=self._keys_of,
        )

    def _keys_of(self, name: str) -> Sequence[PublicKeys]:
        """Return all keys that a principal has had, to name an older version for what it is."""
        try:
            return self._desk.people.roll.keys(name)
        except (RefusedError, BadName):
            return ()

    # ── who holds a key ──────────────────────────────────────────────────────────────────────────────────────────────
    def rewrap(self, who: Identity, name: CheckpointName | None = None) -> tuple[int, list[str]]:
        """Bring envelopes in line with people and policy, for `name` or for all.

        Returns how many checkpoints changed, and the names of those that `who` holds no key for. With a `name`, all of
        its envelopes are made anew. No payload is touched; a key that somebody has taken out is beyond recall.
        """
        if name is not None:
            return int(self._rewrap(who, self.registry.current(name), anew=True)), []
        changed, beyond = 0, list[str]()
        for record in self.registry.all():
            try:
                changed += self._rewrap(who, record)
            except WrongKey:
                beyond.append(str(record.title))
        return changed, beyond

    def _rewrap(self, who: Identity, record: Registered, *, anew: bool = False) -> bool:
        # Held first, people after: the keys of every envelope that is seen are then seen to count, if they do.
        held = self.registry.envelopes(record.checkpoint)
        wanted = {person.name: person.certificate.keys for person in self._holders(record)}
        fitting = {one.person for one in held if not anew and one.fits(wanted.get(one.person), record.version)}
        missing = sorted(wanted.keys() - fitting)
        extra = [one for one in held if self._is_over(one, wanted.get(one.person), record)]
        if not missing and not extra:
            return False
        dropped = sorted({one.person for one in extra} - wanted.keys())
        detail: Detail = {"add": ",".join(missing), "drop": ",".join(dropped), "digest": record.manifest}
        self._desk.demand(who, Question("custody.rewrap", record.title), Matter(detail=detail))
        own = self.registry.envelope(record.checkpoint, who.name, who.keyring.public)
        if missing and own is None:
            raise WrongKey(f"nobody wrapped this checkpoint to {who.name}", where=str(record.title))
        added = [rewrap_key(own, who.keyring, wanted[name], person=name) for name in missing if own]
        self.registry.exchange(add=added, drop=extra)
        return True

    def _is_over(self, held: Held, keys: PublicKeys | None, record: Registered) -> bool:
        """Whether an envelope may go: its person may not hold one, or its keys are not that person's any more.

        One for keys that nobody has certified stays: they may be those of a renewal that is under way.
        """
        if keys is None or held.fits(keys, record.version):
            return keys is None
        former = list(self._keys_of(held.person))[1:]
        return held.envelope.key in {one.fingerprint() for one in former}

    @contextmanager
    def renewing(self) -> Generator[Prepare]:
        """Yield what prepares a change of keys: what the old keys open is wrapped to the new ones before those count.

        Afterwards, whichever keys count keep their envelopes: the old ones go only where the new ones are stored, and
        what was prepared for keys that never came to count goes too.
        """
        pairs: list[tuple[Keyring, Keyring]] = []

        def prepare(old: Keyring, new: Keyring) -> None:
            pairs.append((old, new))
            self._wrap_again(old, new)

        try:
            yield prepare
        except (ConflictError, RefusedError):
            self._settle_renewal(pairs)
            raise
        else:
            self._settle_renewal(pairs)

    def _settle_renewal(self, pairs: Sequence[tuple[Keyring, Keyring]]) -> None:
        """Clear away the envelopes of the keys that do not count, once it is known which do.

        After an interrupt or a lost ledger it is not: the new certificate may still be entered. Then both stay.
        """
        for old, new in pairs:
            if self._desk.people.find(new.name).certificate.keys == new.public:
                self._wrap_again(old, new)  # what was wrapped to the old keys meanwhile
                self._clear(new.name, gone=old.public, instead=new.public)
            else:
                self._clear(new.name, gone=new.public, instead=None)

    def _wrap_again(self, old: Keyring, new: Keyring) -> None:
        """Wrap what `old` opens to `new` as well; an envelope that does not open with `old` is left for a rewrap."""
        for held in self.registry.held_by(old.name):
            if held.envelope.key == old.public.fingerprint():
                with suppress(WrongKey):
                    added = rewrap_key(held.envelope, old, new.public, person=new.name)
                    self.registry.exchange(add=[added], drop=[])

    def _clear(self, name: str, *, gone: PublicKeys, instead: PublicKeys | None) -> None:
        """Delete `name`'s envelopes for the keys `gone`, only where there is one for the keys `instead`."""
        held = self.registry.held_by(name)
        there = {one.envelope.checkpoint for one in held if instead and one.envelope.key == instead.fingerprint()}
        old = [one for one in held if one.envelope.key == gone.fingerprint()]
        self.registry.exchange(add=[], drop=[one for one in old if instead is None or one.envelope.checkpoint in there])

    def withdraw(self, who: Identity, name: str) -> int:
        """Delete every envelope that the disabled `name` holds, of superseded versions too; return how many."""
        held = self.registry.held_by(name)
        act = Act(who.label, "custody.withdraw", f"person:{name}")
        self._journal.record(act, "done", detail={"envelopes": len(held)})
        self.registry.exchange(add=[], drop=held)
        return len(held)

    def _holders(self, record: Registered) -> list[Person]:
        return [
            person
            for person in self._desk.people.everybody()
            if any(
                self._desk.needed(person.certificate, Question(action, record.title, person.certificate.purpose))
                is not None
                for action in _KEY_ACTIONS
            )
        ]
