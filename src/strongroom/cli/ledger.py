"""``strongroom ledger``: verify, read, prove, export, witness. None of it needs a key."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from strongroom.cli.frame import Call, Group, Json, Place, common, moment, put, table
from strongroom.core.errors import BadInput, Interrupted, ProofInvalid
from strongroom.ledger.events import Entry
from strongroom.ledger.proofs import MAX_BUNDLE, verify_bundle

ledger = Group("ledger", help="The tamper-evident log of every act.")


@ledger.command("verify", epilog="Example: strongroom ledger verify --witness /media/stick/witness")
@click.option("--witness", metavar="DIR", help="A witness's folder outside the home (else settings: ledger.witness).")
@common
def verify(call: Call, *, witness: str | None) -> None:
    """Read every entry again and compute the tree anew; with a witness, also that nothing was rolled back."""
    call.ask("ledger.read")
    with call.progress("verifying", unit="entries") as step:
        result = call.home.verify_ledger(None if witness is None else Path(witness), progress=step)
    document: dict[str, Json] = {
        "verified": True,
        "size": result.size,
        "root": result.root,
        "vkey": call.home.ledger.vkey,
        "witnessed": result.witnessed,
    }
    against = (
        "; no witness was asked" if result.witnessed is None else f"; consistent with the witness at {result.witnessed}"
    )
    call.emit(document, f"{result.size} entries verified, root {result.root}{against}")


@ledger.command("tail", epilog="Example: strongroom ledger tail -n 50")
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@common
def tail(call: Call, *, count: int) -> None:
    """Show the newest entries."""
    call.ask("ledger.read")
    entries = call.home.ledger.tail(count)
    call.emit({"entries": [entry_document(one) for one in entries]}, lambda out: show_entries(entries, out))


@ledger.command("follow", epilog="Example: strongroom ledger follow --from 0")
@click.option("--from", "start", type=click.IntRange(0), help="The index to start at (else: what comes from now on).")
@common
def follow(call: Call, *, start: int | None) -> int:
    """Print entries as they come, one JSON document a line, until interrupted."""
    call.ask("ledger.read")
    log = call.home.ledger
    try:
        for entry in log.follow(log.checkpoint().size if start is None else start):
            put(entry.raw.decode() + "\n")
    except KeyboardInterrupt:  # so it ends: no error, and no line that is no entry
        return Interrupted.exit_status
    return 0


@ledger.command("prove", epilog="Example: strongroom ledger prove 12 --out entry12.tlog-proof")
@click.argument("index", type=click.IntRange(0))
@click.option("--out", metavar="FILE", type=Place(path_type=Path), help="Write the bundle there.")
@common
def prove(call: Call, index: int, *, out: Path | None) -> None:
    """Make a proof bundle that a stranger verifies offline with the verifier key."""
    call.ask("ledger.read")
    bundle = call.home.ledger.prove(index).decode()
    if out is not None:
        write_new(out, bundle)
    document: dict[str, Json] = {"index": index, "bundle": bundle, "vkey": call.home.ledger.vkey}
    call.emit(document, bundle if out is None else f"Written to {out}. The verifier key is\n{call.home.ledger.vkey}")


@ledger.command("check", epilog="Example: strongroom ledger check entry12.tlog-proof --vkey 'strongroom.local/…+…+…'")
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--vkey", required=True, help="The log's verifier key, or a file that holds it.")
@common
def check(call: Call, bundle: Path, *, vkey: str) -> None:
    """Verify a proof bundle offline: no home is needed, only the file and the log's verifier key."""
    entry = verify_bundle(_read(bundle), read_vkey(vkey))
    call.emit({"verified": True, "entry": entry_document(entry)}, lambda out: show_entries([entry], out))


@ledger.command("export", epilog="Example: strongroom ledger export ./log")
@click.argument("directory", type=Place(path_type=Path))
@common
def export(call: Call, directory: Path) -> None:
    """Write the log as a C2SP static tree (checkpoint, tile/…, vkey) that any tlog-tiles client reads."""
    call.ask("ledger.read")
    call.home.ledger.export(directory)
    size = call.home.ledger.checkpoint().size
    call.emit({"directory": str(directory), "size": size}, f"{size} entries exported to {directory}")


@ledger.command("witness", epilog="Example: strongroom ledger witness /media/stick/witness")
@click.argument("directory", type=Place(path_type=Path))
@click.option("--accept-loss", is_flag=True, help="Start anew after a restore that lost entries; that is logged.")
@common
def witness(call: Call, directory: Path, *, accept_loss: bool) -> None:
    """Have the witness in DIRECTORY (outside the home; made if absent) check the log and cosign its newest state."""
    call.unwitnessed = accept_loss
    call.ask("ledger.read")
    if directory.resolve().is_relative_to(call.home.path.resolve()):
        raise BadInput("a witness inside the home is rolled back with it", where=str(directory))
    seen = call.home.cosign(directory, accept_loss=accept_loss)
    call.emit({"witness": str(directory), "size": seen}, f"The witness has seen {seen} entries.")


def read_vkey(given: str) -> str:
    """Return a verifier key: given as it is, or as the file that holds it."""
    return given if "+" in given else _read(Path(given)).decode("utf-8", "replace").strip()


def entry_document(entry: Entry) -> dict[str, Json]:
    """Return an entry as the JSON that `tail` and `check` print."""
    event = entry.event
    return {
        "index": entry.index,
        "at": event.at,
        "who": event.who,
        "action": event.action,
        "object": event.object,
        "host": event.host,
        "why": event.why,
        "outcome": event.outcome,
        "detail": dict(event.detail),
        "id": event.id,
        "claim": event.claim,
    }


def show_entries(entries: list[Entry], out: Console) -> None:
    """Print entries as a table."""
    columns = ("#", "at", "who", "action", "object", "outcome", "why")
    events = [(entry.index, entry.event) for entry in entries]
    rows = [(index, moment(one.at), one.who, one.action, one.object, one.outcome, one.why) for index, one in events]
    out.print(table(*columns, rows=rows))


def write_new(path: Path, text: str) -> None:
    """Write a proof bundle into a file that is not there yet.

    Raises:
        BadInput: it is, or it can't be written.

    """
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise BadInput(f"the bundle can't be written ({error.strerror})", where=str(path)) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BUNDLE + 1)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(path)) from None
    if len(raw) > MAX_BUNDLE:
        raise ProofInvalid(f"over {MAX_BUNDLE:,} bytes: no proof bundle", where=str(path))
    return raw
