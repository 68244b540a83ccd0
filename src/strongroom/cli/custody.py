"""``strongroom custody``: seal, list, verify, open in memory, export, run a program over a sealed model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
from rich.console import Console

from strongroom.cli.copies import copies, issue, recipient, release
from strongroom.cli.corpora import corpus
from strongroom.cli.frame import Call, Group, Json, Place, common, moment, plain, table
from strongroom.cli.receive import receive
from strongroom.core.ids import CheckpointName
from strongroom.custody.memory_files import run_with_model
from strongroom.custody.registry import Registered
from strongroom.custody.tensors import SealedTensors
from strongroom.custody.vault import Purpose
from strongroom.wiring.serving import rewrap as rewrap_all
from strongroom.wiring.signatures import keep_signature

custody = Group("custody", help="Weights at rest, in memory, in transit; marked copies for recipients.")
for _one in (recipient, issue, receive, release, copies, corpus):
    custody.add_command(_one)

_ACCESSES = frozenset({"custody.open", "custody.export", "custody.exported", "custody.issue", "custody.issued"})
_WAYS_OUT = {"custody.exported": ("exported", "destination"), "custody.issued": ("issued", "path")}


@custody.command("seal", epilog="Example: strongroom custody seal ./SmolLM2-135M chat:v1 --as carla")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("name", metavar="NAME:TAG")
@common
def seal(call: Call, source: Path, name: str) -> None:
    """Seal a safetensors file or a model folder. Cut off, it goes on where it stopped when repeated."""
    title = CheckpointName.parse(name)
    who = call.identity()
    with call.progress(f"sealing {title}") as step:
        record = call.home.vault.seal(who, source, title, progress=step)
    with call.progress(f"signature of {title}") as step:
        signed = keep_signature(call.home, who, record, progress=step)
    call.emit(
        {
            "checkpoint": str(title),
            "id": record.checkpoint,
            "version": record.version,
            "digest": record.manifest,
            "tensors": record.tensors,
            "bytes": record.bytes,
            "signature": signed,
        },
        f"{title} version {record.version} sealed: {record.tensors} tensors, {record.bytes:,} bytes\n"
        f"  manifest {record.manifest}\nThe source still lies in plain where it was: remove it when you are ready.",
    )


@custody.command("abandon", epilog="Example: strongroom custody abandon chat:v1 --as carla")
@click.argument("name", metavar="NAME:TAG")
@common
def abandon(call: Call, name: str) -> None:
    """Throw away an unfinished sealing of NAME:TAG, say of a custodian who has left. What was sealed before stays."""
    title = CheckpointName.parse(name)
    call.home.vault.abandon(call.identity(), title)
    call.emit({"checkpoint": str(title), "abandoned": True}, f"Nothing unfinished is left of {title}.")


@custody.command("ls", epilog="Example: strongroom custody ls")
@common
def ls(call: Call) -> None:
    """List the checkpoints of the home."""
    call.ask("registry.read")
    records = call.home.vault.registry.all()

    columns = ("checkpoint", "version", "tensors", "bytes", "sealed by", "at", "manifest")
    rows = [
        (one.title, one.version, one.tensors, f"{one.bytes:,}", one.signer, moment(one.created), one.manifest[:16])
        for one in records
    ]
    shown = table(*columns, rows=rows)
    call.emit({"checkpoints": [_document(call, one) for one in records]}, lambda out: out.print(shown))


@custody.command("show", epilog="Example: strongroom custody show chat:v1")
@click.argument("name", metavar="NAME:TAG")
@common
def show(call: Call, name: str) -> None:
    """Show one checkpoint: where it lies, who holds a key, who opened it when."""
    call.ask("registry.read")
    registry = call.home.vault.registry
    record = registry.current(CheckpointName.parse(name))
    accesses: list[Json] = []
    locations: list[Json] = [{"kind": "sealed", "path": str(call.home.sealed_folder(record)), "host": record.host}]
    for entry in registry.history(record.title):
        event = entry.event
        if event.action in _ACCESSES:
            who = {"index": entry.index, "at": event.at, "who": event.who, "action": event.action}
            accesses.append({**who, "why": event.why, "outcome": event.outcome, "host": event.host})
        if event.action in _WAYS_OUT and event.outcome == "done":
            kind, place = _WAYS_OUT[event.action]
            locations.append({"kind": kind, "path": event.detail.get(place, ""), "host": event.host})
    document: dict[str, Json] = {**_document(call, record), "locations": locations, "accesses": accesses}
    call.emit(document, lambda out: _show(document, out))


@custody.command("verify", epilog="Example: strongroom custody verify chat:v1")
@click.argument("name", metavar="NAME:TAG")
@common
def verify(call: Call, name: str) -> None:
    """Check every stored byte against the signed manifest. Needs no key."""
    title = CheckpointName.parse(name)
    who = call.ask("custody.verify", title)
    with call.progress(f"verifying {title}") as step:
        result = call.home.vault.verify(title, who=who, progress=step)
    call.emit(
        {"verified": True, "checkpoint": str(title), "segments": result.segments, "bytes": result.bytes},
        f"{title}: {result.segments} segments, {result.bytes:,} bytes verified",
    )


@custody.command("digest", epilog="Example: strongroom custody digest chat:v1 --as rosa")
@click.argument("name", metavar="NAME:TAG")
@click.option("--purpose", default="digest", show_default=True, help="Why; a service must name its own.")
@common
def digest(call: Call, name: str, *, purpose: str) -> None:
    """Open the checkpoint in memory and print the SHA-256 of every tensor's bytes."""
    why = Purpose(purpose, {"for": "digest"})
    with call.home.vault.open(call.identity(), CheckpointName.parse(name), why) as reader:
        tensors = SealedTensors(reader, lambda memory, _dtype, _shape: hashlib.sha256(memory).hexdigest())
        names, digests = sorted(tensors.keys()), dict[str, Json]()
        with call.progress(f"opening {name}", unit="tensors") as step:
            for done, key in enumerate(names, start=1):
                digests[key] = tensors.get_tensor(key)
                step(done, len(names))
    lines = "\n".join(f"{value}  {key}" for key, value in digests.items())
    call.emit({"checkpoint": name, "tensors": digests}, lines)


@custody.command("export", epilog="Example: strongroom custody export chat:v1 ./out --purpose 'hand-over to QA'")
@click.argument("name", metavar="NAME:TAG")
@click.argument("destination", type=Place(path_type=Path))
@click.option("--purpose", required=True, help="Why; the second person sees it and signs it.")
@common
def export(call: Call, name: str, destination: Path, *, purpose: str) -> None:
    """Write the checkpoint as plain files. The first call leaves a request; once approved, it works, once."""
    record, target = call.home.vault.export(call.identity(), CheckpointName.parse(name), destination, why=purpose)
    call.emit(
        {"checkpoint": name, "destination": str(target), "digest": record.manifest, "bytes": record.bytes},
        f"{name} lies in plain at {target}. From here on nothing of it is logged.",
    )


@custody.command(
    "exec",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: strongroom custody exec chat:v1 -- python generate.py {model}",
)
@click.argument("name", metavar="NAME:TAG")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM ARGS… {model} …")
@click.option("--purpose", default="", help="Why (else: the program's name); a service must name its own.")
@common
def execute(call: Call, name: str, command: tuple[str, ...], *, purpose: str) -> int:
    """Run PROGRAM over the decrypted model: {model} becomes a path in memory that lives as long as the program.

    Standard output and exit status are PROGRAM's, with --json too: only Strongroom's own errors are JSON then.
    """
    program = plain(command[0])[:200]
    why = Purpose(purpose or f"exec {program}", {"for": "exec", "program": program})
    with call.home.vault.open(call.identity(), CheckpointName.parse(name), why) as reader:
        return run_with_model(reader, command)


@custody.command("rewrap", epilog="Example: strongroom custody rewrap chat:v1 --as owner")
@click.argument("name", metavar="NAME:TAG", required=False)
@common
def rewrap(call: Call, name: str | None) -> None:
    """Bring the wrapped keys in line with people and policy. No payload is touched."""
    who, title = call.identity(), None if name is None else CheckpointName.parse(name)
    changed, beyond = rewrap_all(call.home, who, title)
    without = f"; {who.name} holds no key of {', '.join(beyond)}" if beyond else ""
    call.emit({"changed": changed, "beyond": list(beyond)}, f"{changed} checkpoints re-wrapped{without}")


def _document(call: Call, record: Registered) -> dict[str, Json]:
    holders: list[Json] = []
    holders += sorted({one.person for one in call.home.vault.registry.envelopes(record.checkpoint)})
    return {
        "checkpoint": str(record.title),
        "id": record.checkpoint,
        "version": record.version,
        "digest": record.manifest,
        "parent": record.parent,
        "status": "sealed",
        "tensors": record.tensors,
        "bytes": record.bytes,
        "signer": record.signer,
        "created": record.created,
        "classification": call.home.corpora.classification(record.title).class_,
        "holders": holders,
    }


def _show(document: dict[str, Json], out: Console) -> None:
    for name, value in document.items():
        if not isinstance(value, list):
            out.print(f"{name:>12}  {plain(value)}", markup=False, soft_wrap=True)
            continue
        out.print(f"{name:>12}", markup=False)
        for item in value:
            fields = item.values() if isinstance(item, dict) else [item]
            out.print(
                "              " + "  ".join(plain(field) for field in fields if field != ""),
                markup=False,
                soft_wrap=True,
            )
