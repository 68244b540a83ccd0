"""A home: one folder with everything that Strongroom keeps. Made, opened and upgraded here.

H/home.json             format and id: written last, so a half-made home is none
H/strongroom.toml       settings
H/ledger/               the log, its signing key (no passphrase: refusals are logged too), its state index
H/records.sqlite3       people, policy, requests, registry, wrapped keys
H/sealed/               sealed payloads, ordinary files
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.access.approvals import Terms
from strongroom.access.deeds import Deeds
from strongroom.access.desk import Desk
from strongroom.access.directory import Entrant
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.access.recovery import new_recovery_key, recovery_keyring
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import (
    AlreadyExists,
    BadSettings,
    HomeVersion,
    NoHome,
    StoreUnavailable,
    StrongroomError,
    WitnessUnaware,
)
from strongroom.core.ids import CheckpointName, new_id
from strongroom.core.log import configure, log
from strongroom.core.secrets import Secret
from strongroom.core.settings import Settings, parse
from strongroom.custody.corpora import CORPORA, Corpora
from strongroom.custody.registry import Entitled, Registered, Registry
from strongroom.custody.tensors import SealedTensors
from strongroom.custody.vault import Purpose, Vault
from strongroom.ledger.audit import Progress
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Journal
from strongroom.ledger.keys import create_log_key, load_log_key
from strongroom.ledger.log import Ledger
from strongroom.ledger.witness import Witness, WitnessedCheckpoint
from strongroom.ports.blobs import Blobs
from strongroom.ports.log_store import LogStore
from strongroom.ports.records import Records
from strongroom.ports.sessions import Sessions
from strongroom.wiring.table import load, split

FORMAT: Final = "strongroom/home@1"
MARK: Final = "home.json"
SETTINGS: Final = "strongroom.toml"
LOG_KEY: Final = "log-key"
STATE: Final = "state-index"  # beside the log; may be deleted at any time

_ELSEWHERE: Final = "Name a place in a folder where you may write, on a disk with room."

_DEFAULT_SETTINGS = """\
# Settings of this home. docs/settings.md lists every key; unknown keys are refused.
[ledger]
store = "sqlite:ledger/log.sqlite3"

[records]
store = "sqlite:records.sqlite3"

[custody]
store = "file:sealed"
"""


class Mark(Record, frozen=True):
    """What ``home.json`` says."""

    format: str
    id: str


@dataclass(frozen=True, slots=True)
class LedgerVerdict:
    """A verified ledger: its entries, its root, and how many entries the witness had seen (None: no witness)."""

    size: int
    root: str
    witnessed: int | None


@dataclass(frozen=True, slots=True)
class Home:
    """An open home: its rooms, built over the back ends that its settings name."""

    path: Path
    id: str
    settings: Settings
    clock: Clock
    ledger: Ledger
    records: Records
    journal: Journal
    desk: Desk
    vault: Vault
    corpora: Corpora
    sessions: Sessions

    @contextmanager
    def read(self, who: Identity, name: str, *, purpose: str, framework: str = "np") -> Generator[SealedTensors[Any]]:
        """Open a checkpoint for reading in memory: an object that feels like ``safetensors.safe_open``.

        Tensors come as numpy arrays, or with `framework` ``"pt"`` as torch tensors over the same decrypted memory. Its
        keys are wiped when the ``with`` ends; the tensors stay the caller's.

        Raises:
            RefusedError: `who` may not, for this purpose.
            TamperError: the sealed folder is not what was sealed.
            MissingExtra: torch is asked for and not installed.

        """
        make = load("tensors", framework)
        with self.vault.open(who, CheckpointName.parse(name), Purpose(purpose, {"for": "read"})) as reader:
            yield SealedTensors(reader, make)

    def verify_ledger(self, witness: Path | None = None, *, progress: Progress | None = None) -> LedgerVerdict:
        """Verify every entry; against `witness`, or the one in the settings, also that nothing was rolled back."""
        folder = witness or (Path(self.settings.ledger.witness) if self.settings.ledger.witness else None)
        seen = None if folder is None else _known(_witness(folder, self.clock).last(self.ledger.vkey), str(folder))
        result = self.ledger.verify(seen, progress=progress)
        return LedgerVerdict(result.size, result.root, None if seen is None else seen.size)

    def cosign(self, folder: Path, *, accept_loss: bool = False) -> int:
        """Have the witness in `folder` (made if absent) check and cosign the log; return the size that it has seen.

        With `accept_loss` the witness forgets what it saw before, which the log then says: after a restore that lost
        entries, and only then.
        """
        known = (folder / "key").exists()
        witness = Witness(folder, self.clock) if known else Witness.create(folder, _witness_name(folder), self.clock)
        if accept_loss:
            lost = witness.forget(self.ledger.vkey)
            act = Act(f"os:{os.getuid()}", "ledger.witness.forgot", "home")
            self.journal.record(act, "done", detail={"size": lost})
        return witness.cosign(self.ledger).size

    def sealed_folder(self, record: Registered) -> Path:
        """Return where the payload of `record` lies, for people to look at."""
        _, place = split("blobs", self.settings.custody.store)
        return self.path / place / record.checkpoint

    def close(self) -> None:
        """Show the log to the witness that the settings name, if any, and let go of every store."""
        try:
            self.show_to_witness()
        finally:
            self.release()

    def show_to_witness(self) -> None:
        """Have the witness that the settings name, if any, check and cosign the log. A lost one is an error.

        Raises:
            LedgerRolledBack: the log is older than what it saw.
            LedgerForked: the log contradicts what it saw.
            LedgerUnavailable: the witness can't be read or written.

        """
        if self.settings.ledger.witness:
            witness = Witness(Path(self.settings.ledger.witness), self.clock)
            _known(witness.last(self.ledger.vkey), self.settings.ledger.witness)
            witness.cosign(self.ledger)

    def release(self) -> None:
        """Let go of every store without a word to the witness."""
        self.ledger.close()
        self.records.close()


def open_home(path: Path, *, clock: Clock | None = None, witnessed: bool = True) -> Home:
    """Open the home at `path`; with `witnessed`, show its log to the witness that the settings name.

    Raises:
        NoHome: there is none.
        HomeVersion: it is of another format version.

    """
    mark = read_mark(path)
    if mark.format != FORMAT:
        raise HomeVersion(f"the home is {mark.format[:40]}, this Strongroom reads {FORMAT}", where=str(path))
    settings = read_settings(path / SETTINGS)
    configure(settings.log.level)
    key = load_log_key(path / "ledger" / LOG_KEY)
    log.debug("home opened", home=mark.id)
    ledger = Ledger(_log_store(path, settings), key, path / "ledger" / STATE)
    home = _build(path, mark.id, settings, ledger=ledger, clock=clock or SystemClock())
    try:
        if witnessed:
            home.show_to_witness()
    except StrongroomError:
        home.release()
        raise
    return home


def create_home(path: Path, owner: str, passphrase: Secret, *, clock: Clock | None = None) -> tuple[Home, Secret]:
    """Make a home at `path` with its first owner; return it with the recovery key, which is kept nowhere.

    Raises:
        AlreadyExists: something stands at `path`.

    """
    path = path.expanduser().resolve()
    with made_in_place(path) as draft:
        home_id = new_id("home")
        (draft / "ledger").mkdir(mode=0o700)
        (draft / SETTINGS).write_text(_DEFAULT_SETTINGS, encoding="utf-8")
        settings = parse(_DEFAULT_SETTINGS, where=SETTINGS)
        key = create_log_key(draft / "ledger" / LOG_KEY, f"strongroom.local/{home_id}")
        ledger = Ledger.create(_log_store(draft, settings), key)
        home = _build(draft, home_id, settings, ledger=ledger, clock=clock or SystemClock())
        recovery = new_recovery_key()
        home.desk.found(Entrant(owner, "owner", passphrase), recovery_keyring(recovery).public)
        home.close()
        write_mark(draft, Mark(format=FORMAT, id=home_id))
    return open_home(path, clock=clock), recovery


def read_settings(file: Path) -> Settings:
    """Return the settings in `file`.

    Raises:
        BadSettings: it can't be read, or says what it may not.

    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"can't be read ({type(error).__name__})", where=str(file)) from None
    return parse(text, where=str(file))


def read_mark(path: Path) -> Mark:
    """Return what ``home.json`` at `path` says.

    Raises:
        NoHome: there is no home.

    """
    try:
        raw = (path / MARK).read_bytes()
    except OSError:
        raise NoHome("there is no home", where=str(path)) from None
    return decode(raw.strip(), Mark, where=str(path / MARK))


def write_mark(path: Path, mark: Mark) -> None:
    """Write ``home.json``, durably: the folder is a home from here on."""
    with (path / MARK).open("xb") as stream:
        stream.write(encode(mark) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def upgrade_home(path: Path) -> list[str]:
    """Bring an older home to this format version; return the steps that were taken.

    Raises:
        HomeVersion: no steps lead from its version to this one.

    """
    mark = read_mark(path)
    if mark.format == FORMAT:
        return []
    raise HomeVersion(f"no upgrade leads from {mark.format[:40]} to {FORMAT}", where=str(path))


@contextmanager
def made_in_place(path: Path) -> Generator[Path]:
    """Yield a private folder beside `path` that takes its place when all went well, and is removed when not."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise AlreadyExists("something stands there", where=str(path))
    draft = path.with_name(f".{path.name}.making-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        yield draft
        draft.rename(path)
    except OSError as error:
        raise StoreUnavailable(
            f"the home can't be made ({error.strerror})", where=str(path), remedy=_ELSEWHERE
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _witness(folder: Path, clock: Clock) -> Witness:
    """Return the witness in `folder`.

    Raises:
        WitnessUnaware: there is none.

    """
    try:
        folder.joinpath("key").stat()
    except (FileNotFoundError, NotADirectoryError):
        raise WitnessUnaware("there is no witness at that place", where=str(folder)) from None
    except OSError:
        pass  # it is there, and what keeps it from being read is said where it is read
    return Witness(folder, clock)


def _known(seen: WitnessedCheckpoint | None, folder: str) -> WitnessedCheckpoint:
    """Return what a witness saw.

    Raises:
        WitnessUnaware: it has never seen this log.

    """
    if seen is None:
        raise WitnessUnaware("this witness has never seen the home's ledger", where=folder)
    return seen


def _witness_name(folder: Path) -> str:
    """Return a key name for a witness: its folder's, without what a key name may not hold."""
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in folder.name)
    return f"witness.strongroom.local/{plain or 'witness'}"


def _build(path: Path, home_id: str, settings: Settings, *, ledger: Ledger, clock: Clock) -> Home:
    """Put the rooms together over the stores that the settings name."""
    journal = Journal(ledger, clock, socket.gethostname())
    scheme, place = split("records", settings.records.store)
    open_records: Callable[[Path], Records] = load("records", scheme)
    records = open_records(path / place)
    terms = Terms(
        lifetime=dt.timedelta(hours=settings.access.approval_hours),
        sole_owner_delay=dt.timedelta(hours=settings.access.sole_owner_delay_hours),
    )
    desk = Desk(records, journal, home=home_id, terms=terms)
    scheme, place = split("blobs", settings.custody.store)
    open_blobs: Callable[[Path], Blobs] = load("blobs", scheme)
    open_sessions: Callable[[Path], Sessions] = load("sessions", "agent")
    registry = Registry(records, journal, entitled=_entitled(desk))
    vault = Vault(desk, journal, registry, blobs=open_blobs(path / place), inside=path)
    deeds = Deeds(records, journal, desk, series=CORPORA, home=home_id)
    corpora = Corpora(deeds, desk)
    desk.classify = lambda title: corpora.classification(title).class_
    return Home(
        path=path,
        id=home_id,
        settings=settings,
        clock=clock,
        ledger=ledger,
        records=records,
        journal=journal,
        desk=desk,
        vault=vault,
        corpora=corpora,
        sessions=open_sessions(path),
    )


def _entitled(desk: Desk) -> Entitled:
    """Return whether whoever made a sealing's entry is its signer, and might seal then."""

    def entitled(entry: Entry, name: CheckpointName) -> bool:
        detail = entry.event.detail
        own = entry.event.who.partition(":")[2] == detail.get("signer")
        return own and desk.was_entitled(entry, Question("custody.seal", name), keys=str(detail.get("key")))

    return entitled


def _log_store(path: Path, settings: Settings) -> LogStore:
    scheme, place = split("ledger", settings.ledger.store)
    open_store: Callable[[Path], LogStore] = load("ledger", scheme)
    return open_store(path / place)
