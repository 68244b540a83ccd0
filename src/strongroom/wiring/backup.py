"""Back up a home into one file, and restore it: verified before it counts.

The file is a tar: settings, the log key, consistent copies of both databases, and the sealed payloads. Every secret in
it is sealed, but for the log key. Two homes with one log key could fork the log: restore in place of a lost home,
never beside a living one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.errors import AlreadyExists, BadInput, NoHome, StoreUnavailable
from strongroom.ledger.journal import Act
from strongroom.wiring.home import LOG_KEY, MARK, SETTINGS, Home, made_in_place, open_home
from strongroom.wiring.table import load, split

Progress = Callable[[int, int], None]


def back_up(home: Home, file: Path, *, by: Identity, progress: Progress) -> int:
    """Write `home` to the new `file` (mode 0600); return its size in bytes. Logged before the first byte.

    Raises:
        AlreadyExists: something stands at `file`.
        StoreUnavailable: it can't be written; nothing is left.

    """
    if file.exists():
        raise AlreadyExists("something stands there", where=str(file))
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


def restore_home(file: Path, path: Path, *, progress: Progress) -> int:
    """Make a home at `path` from the backup `file`; return the number of verified ledger entries.

    Raises:
        AlreadyExists: something stands at `path`.
        BadInput: the file is no backup of a home.
        TamperError: the ledger or a sealed checkpoint in it was altered; nothing is left at `path`.

    """
    with made_in_place(path.expanduser().resolve()) as draft:
        _unpack(file, draft, progress=progress)
        try:
            restored = open_home(draft)
        except NoHome:
            raise BadInput("there is no home in it", where=str(file)) from None
        with closing(restored):
            size = restored.verify_ledger().size
            who = f"os:{os.getuid()}"
            for record in restored.vault.registry.all():
                restored.vault.verify(record.title, who=who)
            restored.journal.record(Act(who, "home.restore", "home", f"from {file.name[:200]}"), "done")
    return size


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
    yield home.path / "ledger" / LOG_KEY, f"ledger/{LOG_KEY}"
    yield home.path / SETTINGS, SETTINGS
    _, sealed = split("blobs", home.settings.custody.store)
    for payload in sorted((home.path / sealed).glob("[!.]*/*")):
        yield payload, f"{sealed}/{payload.parent.name}/{payload.name}"
    yield home.path / MARK, MARK


def _pack(pieces: list[tuple[Path, str]], target: Path, *, progress: Progress) -> None:
    total, done = sum(piece.stat().st_size for piece, _ in pieces), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for piece, name in pieces:
                archive.add(piece, arcname=name, recursive=False)
                done += piece.stat().st_size
                progress(done, total)
        stream.flush()
        os.fsync(stream.fileno())


def _unpack(file: Path, draft: Path, *, progress: Progress) -> None:
    total, done = file.stat().st_size, 0
    try:
        with tarfile.open(file, mode="r:") as archive:
            for member in archive:
                _check(member, file)
                place = draft / member.name
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                source = archive.extractfile(member)
                with place.open("xb") as stream:
                    shutil.copyfileobj(source, stream, 1 << 20) if source else None
                    os.fsync(stream.fileno())
                place.chmod(0o600)
                done += member.size
                progress(done, total)
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"the backup can't be read ({type(error).__name__})", where=str(file)) from None


def _check(member: tarfile.TarInfo, file: Path) -> None:
    """Refuse whatever a backup never holds: links, devices, absolute names, names that climb."""
    name = PurePosixPath(member.name)
    if not member.isreg() or name.is_absolute() or ".." in name.parts:
        raise BadInput(f"{member.name[:200]!r} has no place in a backup", where=str(file))
