"""Back up a home into one file, and restore it: verified before it counts.

The file is a tar: settings, the log key, consistent copies of both databases, and the sealed payloads. Every secret in
it is sealed, but for the log key. Two homes with one log key could fork the log: restore in place of a lost home,
never beside a living one.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.errors import AlreadyExists, BadInput, LedgerForked, NoHome, NotSealed, StoreUnavailable
from strongroom.core.settings import Settings, parse
from strongroom.ledger.journal import Act
from strongroom.wiring.home import LOG_KEY, MARK, SETTINGS, Home, made_in_place, open_home
from strongroom.wiring.table import load, split

Progress = Callable[[int, int], None]

_LOG_KEY: Final = f"ledger/{LOG_KEY}"
_FOLDER: Final = re.compile(r"ckpt_[0-9a-f]{30}")
_PAYLOAD: Final = re.compile(r"manifest\.json|manifest\.sig|[0-9]{6}\.sealed")
_SETTINGS_LIMIT: Final = 1 << 20
_NO_FOLDER: Final = "Make the folder first, or name a file in one that is there."
_OTHERS: Final = "This is another home's backup, or the key is another home's: give the two that belong together."
_UNREADABLE = (tarfile.TarError, EOFError, ValueError, LookupError, OverflowError)  # what tarfile raises on noise


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored home: its verified ledger entries, and the verifier key of the log that they are in."""

    entries: int
    vkey: str


def back_up(home: Home, file: Path, *, by: Identity, progress: Progress) -> int:
    """Write `home` to the new `file` (mode 0600); return its size in bytes. Logged before the first byte.

    Raises:
        AlreadyExists: something stands at `file`.
        BadInput: the folder that it is to stand in is missing.
        NotSealed: a link stands in place of a sealed payload; nothing is left.
        StoreUnavailable: it can't be written; nothing is left.

    """
    if file.exists():
        raise AlreadyExists("something stands there", where=str(file))
    if not file.absolute().parent.is_dir():
        raise BadInput("there is no folder to write it into", where=str(file), remedy=_NO_FOLDER)
    home.desk.demand(by, Question("home.backup", purpose=f"to {file.name[:200]}"))
    partial = file.with_name(f".{file.name}.partial-{secrets.token_hex(4)}")
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=home.path) as scratch:
            pieces = list(_pieces(home, Path(scratch)))
            _pack(pieces, partial, progress=progress)
        partial.rename(file)
    except OSError as error:
        raise StoreUnavailable(f"the backup can't be written ({error.strerror})", where=str(file)) from None
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size


def restore_home(file: Path, path: Path, *, progress: Progress, vkey: str | None = None) -> Restored:
    """Make a home at `path` from the backup `file`, of the log with the verifier key `vkey` if that is given.

    A backup proves that it is whole and consistent. That it is yours, and not somebody's forgery with people of their
    own, only a `vkey` from elsewhere proves.

    Raises:
        AlreadyExists: something stands at `path`.
        BadInput: the file is no backup of a home.
        BadSettings: its settings are malformed, or name a store outside the home.
        LedgerForked: its log has another verifier key.
        TamperError: the ledger or a sealed checkpoint in it was altered; nothing is left at `path`.

    """
    with made_in_place(path.expanduser().resolve()) as draft:
        _unpack(file, draft, progress=progress)
        try:
            restored = open_home(draft, witnessed=False)
        except NoHome:
            raise BadInput("there is no home in it", where=str(file)) from None
        with _let_go(restored):
            found = restored.ledger.vkey
            if vkey is not None and vkey.strip() != found:
                raise LedgerForked(f"its log has another verifier key, {found}", where=str(file), remedy=_OTHERS)
            size = restored.verify_ledger().size
            who = f"os:{os.getuid()}"
            for record in restored.vault.registry.all():
                restored.vault.verify(record.title, who=who)
            restored.journal.record(Act(who, "home.restore", "home", f"from {file.name[:200]}"), "done")
    return Restored(size, found)


def _places(settings: Settings) -> tuple[str, str, str]:
    """Return where in the home the log, the records and the sealed payloads are."""
    ledger, records, custody = settings.ledger.store, settings.records.store, settings.custody.store
    return split("ledger", ledger)[1], split("records", records)[1], split("blobs", custody)[1]


@contextmanager
def _let_go(home: Home) -> Generator[None]:
    """Let go of a draft in the end; the witness is shown no home that is not in its place."""
    try:
        yield
    finally:
        home.release()


def _pieces(home: Home, scratch: Path) -> Iterator[tuple[Path, str]]:
    """Yield what goes in, and under which name.

    The ledger is copied before the records: a record that the older ledger does not name yet is inert, while one
    that it names and that is missing would be taken for tampering.
    """
    stores = (home.settings.ledger.store, home.settings.records.store)
    for port, url in zip(("ledger", "records"), stores, strict=True):
        scheme, place = split(port, url)
        copy = scratch / port
        load("snapshot", scheme)(home.path / place, copy)
        yield copy, place
    yield home.path / _LOG_KEY, _LOG_KEY
    yield home.path / SETTINGS, SETTINGS
    sealed = _places(home.settings)[2]
    for folder in sorted((home.path / sealed).iterdir()):
        if _FOLDER.fullmatch(folder.name) and folder.is_dir():
            yield from ((payload, f"{sealed}/{folder.name}/{payload.name}") for payload in _payloads(folder))
    yield home.path / MARK, MARK


def _payloads(folder: Path) -> Iterator[Path]:
    """Yield the files of a sealed checkpoint. What else stands there is no part of it, and stays behind."""
    for place in (folder, *sorted(folder.iterdir())):
        if place.is_symlink() and (place is folder or _PAYLOAD.fullmatch(place.name)):
            raise NotSealed("a link; a backup holds none", where=str(place))
        if _PAYLOAD.fullmatch(place.name):
            yield place


def _pack(pieces: list[tuple[Path, str]], target: Path, *, progress: Progress) -> None:
    total, done = sum(piece.stat().st_size for piece, _ in pieces), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for piece, name in pieces:
                done += _add(archive, piece, name)
                progress(done, total)
        stream.flush()
        os.fsync(stream.fileno())


def _add(archive: tarfile.TarFile, piece: Path, name: str) -> int:
    """Add a file as a plain member, whatever links lead to it; return its size."""
    with os.fdopen(os.open(piece, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as source:
        status = os.fstat(source.fileno())
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = status.st_size, int(status.st_mtime), 0o600
        archive.addfile(member, source)
    return member.size


def _unpack(file: Path, draft: Path, *, progress: Progress) -> None:
    total, done = file.stat().st_size, 0
    try:
        with tarfile.open(file, mode="r:") as archive:
            belongs = _belongs(archive, file)
            for member in archive:
                done += member.size
                place = draft / member.name
                if not belongs(member.name) or not _plain(member) or done > total or place.exists():
                    raise _misplaced(member, file)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _extract(archive, member, place)
                progress(done, total)
    except _UNREADABLE as error:
        raise BadInput(f"the backup can't be read ({type(error).__name__})", where=str(file)) from None


def _belongs(archive: tarfile.TarFile, file: Path) -> Callable[[str], bool]:
    """Return what says whether a backup with the settings in `archive` holds a file of that name."""
    if SETTINGS not in archive.getnames():
        raise BadInput("there is no home in it", where=str(file))
    member = archive.getmember(SETTINGS)
    if not _plain(member) or member.size > _SETTINGS_LIMIT:
        raise _misplaced(member, file)
    source = archive.extractfile(member)
    text = source.read().decode() if source else ""
    log, records, sealed = _places(parse(text, where=f"{file.name}: {SETTINGS}"))
    names = frozenset({SETTINGS, MARK, _LOG_KEY, log, records})
    payload = re.compile(f"{re.escape(sealed)}/{_FOLDER.pattern}/(?:{_PAYLOAD.pattern})")
    return lambda name: name in names or payload.fullmatch(name) is not None


def _plain(member: tarfile.TarInfo) -> bool:
    """Whether it is a regular file whose every byte is in the archive: no link, no device, nothing sparse."""
    return member.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not member.issparse() and member.size >= 0


def _misplaced(member: tarfile.TarInfo, file: Path) -> BadInput:
    return BadInput(f"{member.name[:200]!r} has no place in a backup", where=str(file))


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    source = archive.extractfile(member)
    with place.open("xb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20) if source else None
        os.fchmod(stream.fileno(), 0o600)
        stream.flush()
        os.fsync(stream.fileno())
