"""``strongroom init`` and ``strongroom home``: make, back up, restore and upgrade a home."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.frame import Call, Group, Place, common, read_passphrase
from strongroom.wiring.backup import back_up, restore_home
from strongroom.wiring.home import create_home, upgrade_home

home = Group("home", help="Back up, restore and upgrade a home.")


@click.command("init", epilog="Example: strongroom init --home ./vault --passphrase-file owner.txt")
@click.option("--name", default="owner", show_default=True, help="The first owner's name.")
@common
def init(call: Call, *, name: str) -> None:
    """Make a home with its first owner. The recovery key is printed once: write it down, keep it in a safe."""
    _, file = call.credentials()
    passphrase = read_passphrase(file, f"Passphrase of {name}", confirm=True)
    made, recovery = create_home(call.home_path, name, passphrase)
    key, vkey = recovery.reveal().decode(), made.ledger.vkey
    made.close()
    call.emit(
        {"home": str(call.home_path), "owner": name, "recovery_key": key, "vkey": vkey},
        f"Home {call.home_path} is made; its owner is {name}.\n\n"
        f"Recovery key, printed this once (whoever holds it can become anybody):\n  {key}\n\n"
        f"Verifier key of the ledger, for strangers:\n  {vkey}",
    )


@home.command("backup", epilog="Example: strongroom home backup vault-2026-11.tar")
@click.argument("file", type=Place(path_type=Path))
@common
def backup(call: Call, file: Path) -> None:
    """Write the whole home, consistent, to one FILE. It holds the log key: guard it like the home."""
    who = call.identity()
    with call.progress("backing up") as step:
        size = back_up(call.home, file, by=who, progress=step)
    call.emit({"backup": str(file), "bytes": size}, f"{file}: {size:,} bytes")


@home.command("restore", epilog="Example: strongroom home restore vault-2026-11.tar --home ./vault")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--vkey", help="The verifier key that its ledger must have; `init` printed it.")
@common
def restore(call: Call, file: Path, *, vkey: str | None) -> None:
    """Make a home from a backup FILE, and verify its ledger and every sealed checkpoint before it counts."""
    with call.progress("restoring") as step:
        done = restore_home(file, call.home_path, progress=step, vkey=vkey)
    checked = "as given" if vkey else "compare it with the one that `init` printed, or anybody's backup would do"
    call.emit(
        {"home": str(call.home_path), "entries": done.entries, "vkey": done.vkey},
        f"{call.home_path}: restored and verified, {done.entries} ledger entries. What came after is not in it.\n"
        f"Verifier key of its ledger ({checked}):\n  {done.vkey}",
    )


@home.command("upgrade", epilog="Example: strongroom home upgrade --home ./vault")
@common
def upgrade(call: Call) -> None:
    """Bring a home of an older format version to this one."""
    steps = upgrade_home(call.home_path)
    call.emit({"home": str(call.home_path), "upgraded": list(steps)}, "; ".join(steps) or "Nothing to do.")
