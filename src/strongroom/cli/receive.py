"""``strongroom custody receive``: what a recipient does with a copy. No home, no ledger, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

import click

from strongroom.cli.frame import Call, Group, Json, Place, common, plain
from strongroom.core.clock import SystemClock
from strongroom.core.errors import BadInput
from strongroom.custody.copy_formats import DOCUMENT_LIMIT, notes
from strongroom.custody.landing import check_destination
from strongroom.custody.memory_files import run_with_model
from strongroom.custody.plain import write_plain
from strongroom.custody.read import SealedReader
from strongroom.custody.receive import Received
from strongroom.custody.receive import receive as read_copy
from strongroom.custody.recipient_keys import read_seed
from strongroom.custody.tensors import SealedTensors
from strongroom.wiring.copies import shelf_at

receive = Group("receive", help="Copies that came: verify, open in memory, export. Needs no home.")

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
_SHARE = click.option("--share", type=_FILE, help="The release share, if the copy is under an embargo.")
_ISSUER = click.option("--issuer", metavar="FINGERPRINT", help="Whose signature alone counts: 64 hexadecimal digits.")
_KEY = click.option("--key", type=_FILE, required=True, help="The recipient's secret key.")


class _Access(TypedDict):
    """The options with which a copy is opened."""

    key: Path
    share: Path | None
    issuer: str | None


@receive.command("verify", epilog="Example: strongroom custody receive verify ./for-lab --key lab.key")
@_FOLDER
@click.option("--key", type=_FILE, help="The recipient's secret key: does it fit? Nothing is decrypted.")
@_SHARE
@_ISSUER
@common
def verify(call: Call, folder: Path, *, key: Path | None, share: Path | None, issuer: str | None) -> None:
    """Check signature, manifest and every byte of the copy in DIR, and whether the key fits."""
    if share is not None and key is None:
        raise BadInput("whether a share is the right one only the recipient's key tells", where="--share",
                       remedy="Give --key as well, or leave --share out.")  # fmt: skip
    with shelf_at(folder) as shelf:
        found = read_copy(shelf, issuer=issuer)
        if key is not None:
            _check_key(found, key, share)
        with call.progress(f"verifying {found.copy.title}") as step:
            result = found.verify(progress=step)
    one, said = found.copy, _notes(found, issuer)
    document: dict[str, Json] = {
        "verified": True,
        "copy": one.copy,
        "checkpoint": str(one.title),
        "version": one.version,
        "recipient": one.recipient.name,
        "key_fits": None if key is None else True,
        "issuer": one.issuer.name,
        "fingerprint": found.issuer,
        "pinned": issuer is not None,
        "licence": one.licence,
        "purpose": one.purpose,
        "issued": one.issued,
        "embargo": one.embargo,
        "expires": one.expires,
        "expired": found.is_expired(SystemClock().now()),
        "segments": result.segments,
        "bytes": result.bytes,
        "perplexity_cost": None if one.perplexity is None else one.perplexity.ratio,
        "notes": [*said],
    }
    lines = [
        f"{one.title} version {one.version} for {one.recipient.name}: {result.segments} segments verified",
        f"  issued by {one.issuer.name}, {found.issuer}",
        f"  licence {one.licence}; purpose: {one.purpose}",
    ]
    if key is not None:
        lines.append("  your key fits" + ("; so does the release share" if share is not None else ""))
    call.emit(document, "\n".join([*lines, *(f"  - {note}" for note in said)]))


@receive.command("digest", epilog="Example: strongroom custody receive digest ./for-lab --key lab.key")
@_FOLDER
@_KEY
@_SHARE
@_ISSUER
@common
def digest(call: Call, folder: Path, **access: Unpack[_Access]) -> None:
    """Open the copy in memory and print the SHA-256 of every tensor's bytes."""
    with _opened(call, folder, access) as (found, reader):
        tensors = SealedTensors(reader, lambda memory, _dtype, _shape: hashlib.sha256(memory).hexdigest())
        names, digests = sorted(tensors.keys()), dict[str, Json]()
        with call.progress(f"opening {found.copy.title}", unit="tensors") as step:
            for done, name in enumerate(names, start=1):
                digests[name] = tensors.get_tensor(name)
                step(done, len(names))
    lines = "\n".join(f"{value}  {name}" for name, value in digests.items())
    call.emit({"copy": found.copy.copy, "tensors": digests, "notes": [*_notes(found, access["issuer"])]}, lines)


@receive.command("export", epilog="Example: strongroom custody receive export ./for-lab ./plain --key lab.key")
@_FOLDER
@click.argument("destination", type=Place(path_type=Path))
@_KEY
@_SHARE
@_ISSUER
@common
def export(call: Call, folder: Path, destination: Path, **access: Unpack[_Access]) -> None:
    """Write the copy as plain files into the new folder DESTINATION. The mark stays in them."""
    with _opened(call, folder, access) as (found, reader):
        target = check_destination(destination)
        write_plain(reader, target, single=False)
    call.emit(
        {"copy": found.copy.copy, "destination": str(target), "notes": [*_notes(found, access["issuer"])]},
        f"{found.copy.title} lies in plain at {target}, and carries the mark of {found.copy.recipient.name}.",
    )


@receive.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: strongroom custody receive exec ./for-lab --key lab.key -- python generate.py {model}",
)
@_FOLDER
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM ARGS… {model} …")
@_KEY
@_SHARE
@_ISSUER
@common
def execute(call: Call, folder: Path, command: tuple[str, ...], **access: Unpack[_Access]) -> int:
    """Run PROGRAM over the decrypted copy: {model} becomes a path in memory that lives as long as the program."""
    with _opened(call, folder, access) as (_, reader):
        return run_with_model(reader, command)


@contextmanager
def _opened(call: Call, folder: Path, access: _Access) -> Generator[tuple[Received, SealedReader]]:
    """Yield the copy in `folder`, opened in memory; what should be known of it is on standard error by then."""
    with shelf_at(folder) as shelf:
        found = read_copy(shelf, issuer=access["issuer"])
        seed = read_seed(access["key"])
        try:
            reader = found.open(seed, _share(access["share"]), now=SystemClock().now())
        finally:
            seed.wipe()
        with closing(reader):
            for note in _notes(found, access["issuer"]):
                call.err.print(f"note: {plain(note)}", markup=False, soft_wrap=True)
            yield found, reader


def _check_key(found: Received, key: Path, share: Path | None) -> None:
    seed = read_seed(key)
    try:
        data_key = found.data_key(seed, _share(share))
    finally:
        seed.wipe()
    if data_key is not None:
        data_key.wipe()


def _notes(found: Received, issuer: str | None) -> list[str]:
    said = notes(found.copy)
    if found.is_expired(SystemClock().now()):
        said.append("its term is over")
    if issuer is None:
        said.append(
            "compare the issuer's fingerprint with one that came another way, and give it with --issuer from then on: "
            "the copy itself can't prove who issued it"
        )
    return said


def _share(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            raw = stream.read(DOCUMENT_LIMIT + 1)
    except OSError as error:
        raise BadInput(f"the release share can't be read ({error.strerror})", where=str(file)) from None
    if len(raw) > DOCUMENT_LIMIT:
        raise BadInput(f"over {DOCUMENT_LIMIT} bytes: no release share", where=str(file))
    return raw
