"""``strongroom custody recipient | issue | copies | release``: copies that leave, each marked for one recipient."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypedDict, Unpack

import click
from msgspec import to_builtins

from strongroom.cli.frame import Call, Group, Json, Place, common, moment, table
from strongroom.core.ids import CheckpointName
from strongroom.custody.copies import status
from strongroom.custody.copy_formats import DEFAULT_LICENCE, IssuedCopy, notes
from strongroom.custody.issue import Order
from strongroom.custody.recipient_keys import make_keys, public_file, public_text, read_public
from strongroom.custody.recipients import KINDS, Kind, Recipient
from strongroom.custody.release import release as release_share
from strongroom.ports.marks import Progress
from strongroom.wiring.copies import TOKENS, Measuring, issuer_of, premises_of


class _Asked(TypedDict):
    """The options of ``issue``."""

    to: str
    out: Path
    purpose: str
    licence: str
    embargo: str | None
    expires: str | None
    tokens: int
    texts: Path | None


recipient = Group("recipient", help="Whom copies are issued to: names, each with a public key for ever.")


@recipient.command("keygen", epilog="Example: strongroom custody recipient keygen --out lab.key")
@click.option("--out", required=True, type=Place(path_type=Path), help="A new file for the secret key (mode 0600).")
@common
def keygen(call: Call, out: Path) -> None:
    """Make a recipient's keys: FILE stays with the recipient, FILE.pub goes to whoever issues. Needs no home."""
    keys = make_keys(out)
    beside = public_file(out)
    call.emit(
        {"public_key": public_text(keys), "fingerprint": keys.fingerprint(), "secret": str(out), "public": str(beside)},
        f"Secret key in {out}: keep it, it opens every copy that is issued to it.\n"
        f"Public key in {beside}: give it to whoever issues copies, and tell them the fingerprint another way:\n"
        f"  {keys.fingerprint()}",
    )


@recipient.command("add", epilog="Example: strongroom custody recipient add lab --public-key lab.key.pub --as carla")
@click.argument("name")
@click.option("--public-key", required=True, type=Place(path_type=Path), help="The recipient's FILE.pub.")
@click.option("--kind", type=click.Choice(KINDS), default="organisation", show_default=True, help="What it is.")
@common
def add(call: Call, name: str, *, public_key: Path, kind: Kind) -> None:
    """Add a recipient. A name stands for one key for ever: somebody with a new key gets a new name."""
    keys = read_public(public_key)
    premises_of(call.home).recipients.add(call.identity(), Recipient(name=name, kind=kind, keys=keys))
    call.emit(
        {"recipient": name, "kind": kind, "fingerprint": keys.fingerprint()},
        f"{name} ({kind}) added. Compare the key's fingerprint with the recipient, over another channel:\n"
        f"  {keys.fingerprint()}",
    )


@recipient.command("ls", epilog="Example: strongroom custody recipient ls")
@common
def ls(call: Call) -> None:
    """List the recipients."""
    call.ask("registry.read")
    found = premises_of(call.home).recipients.all()
    documents: list[Json] = [
        {"recipient": one.name, "kind": one.kind, "fingerprint": one.keys.fingerprint()} for one in found
    ]
    rows = [(one.name, one.kind, one.keys.fingerprint()) for one in found]
    shown = table("recipient", "kind", "fingerprint", rows=rows)
    call.emit({"recipients": documents}, lambda out: out.print(shown))


@click.command(
    "issue", epilog="Example: strongroom custody issue chat:v1 --to lab --out ./for-lab --purpose evaluation"
)
@click.argument("name", metavar="NAME:TAG")
@click.option("--to", required=True, metavar="RECIPIENT", help="Whom it is for (custody recipient ls).")
@click.option("--out", required=True, type=Place(path_type=Path), help="A new folder for the copy.")
@click.option("--purpose", required=True, help="Why; the second person sees it and signs it.")
@click.option("--licence", default=DEFAULT_LICENCE, show_default=True, help="The licence's class or id.")
@click.option("--embargo", metavar="DATE", help="YYYY-MM-DD: it opens only with the release share of that day.")
@click.option("--expires", metavar="DATE", help="YYYY-MM-DD: honest clients open it until then.")
@click.option("--tokens", type=click.IntRange(min=0), default=TOKENS, show_default=True,
              help="Tokens to measure the mark's cost on, for a version's first copy; 0: measure nothing.")  # fmt: skip
@click.option("--texts", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Texts to measure it on.")
@common
def issue(call: Call, name: str, **asked: Unpack[_Asked]) -> None:
    """Issue a copy, marked and encrypted for RECIPIENT. The first call leaves a request; approved, it works, once."""
    title, who = CheckpointName.parse(name), call.identity()
    order = Order(
        recipient=asked["to"],
        out=asked["out"],
        purpose=asked["purpose"],
        licence=asked["licence"],
        embargo=asked["embargo"],
        expires=asked["expires"],
    )
    issuer = issuer_of(call.home, who, Measuring(asked["tokens"], asked["texts"]))
    issued = issuer.issue(who, title, order, watch=functools.partial(_watch, call))
    call.emit(_document(issued, "issued"), _told(issued))


def _watch(call: Call, what: str) -> AbstractContextManager[Progress | None]:
    """Show a bar for a part of an issue, in the unit that it counts in."""
    units = {"finding": "weights", "reading": "weights", "measuring": "windows"}
    return call.progress(what, unit=units.get(what.split(maxsplit=1)[0], "bytes"))


def _told(issued: IssuedCopy) -> str:
    """Return what people are told of a copy that was issued."""
    cost, mark = issued.perplexity, issued.mark
    lines = [
        f"{issued.title} version {issued.version} issued to {issued.recipient.name}: {issued.path}",
        f"  copy {issued.copy}",
        f"  mark {mark.scheme} in {mark.share:.0%} of the weights, retained strength {mark.retained:.2f}, read back",
        f"  issuer's fingerprint {issued.issuer.keys.fingerprint()}: tell the recipient, over another channel",
    ]
    if cost is not None:
        lines.append(
            f"  perplexity {cost.ratio:+.3%} ({cost.low:+.3%} to {cost.high:+.3%}), {cost.tokens} tokens, "
            f"measured on {cost.measured_on}"
        )
    return "\n".join([*lines, *(f"  - {note}" for note in notes(issued))])


def _document(one: IssuedCopy, state: str) -> dict[str, Json]:
    """Return what ``--json`` says of a copy."""
    said: list[Json] = [*notes(one)]
    return {
        "copy": one.copy,
        "checkpoint": str(one.title),
        "id": one.checkpoint,
        "version": one.version,
        "recipient": one.recipient.name,
        "kind": one.recipient.kind,
        "recipient_key": one.recipient.key,
        "licence": one.licence,
        "purpose": one.purpose,
        "issued": one.issued,
        "issuer": one.issuer.name,
        "fingerprint": one.issuer.keys.fingerprint(),
        "embargo": one.embargo,
        "expires": one.expires,
        "status": state,
        "path": one.path,
        "host": one.host,
        "request": one.request,
        "digest": one.digest,
        "manifest": one.manifest,
        "scheme": one.mark.scheme,
        "segments": one.mark.segments,
        "units": one.mark.units,
        "marked_share": one.mark.share,
        "alpha": one.mark.alpha,
        "retained_strength": one.mark.retained,
        "commitment": one.mark.commitment,
        "perplexity_cost": None if one.perplexity is None else one.perplexity.ratio,
        "perplexity": None if one.perplexity is None else to_builtins(one.perplexity),
        "notes": said,
    }


@click.command("copies", epilog="Example: strongroom custody copies chat:v1")
@click.argument("name", metavar="NAME:TAG", required=False)
@common
def copies(call: Call, name: str | None) -> None:
    """List the copies that were issued, and how each stands: prepared, issued, embargoed or expired."""
    title = None if name is None else CheckpointName.parse(name)
    call.ask("registry.read")
    kept = premises_of(call.home).copies
    if title is not None:
        call.home.vault.registry.current(title)  # or there is no such checkpoint
    placed, now = kept.placed(), call.home.journal.now()
    found = [(one, status(one, placed, now)) for one in (kept.all() if title is None else kept.of(title))]
    columns = ("copy", "checkpoint", "recipient", "at", "status")
    rows = [
        (one.copy, f"{one.title} version {one.version}", one.recipient.name, moment(one.issued), state)
        for one, state in found
    ]
    shown = table(*columns, rows=rows)
    call.emit({"copies": [_document(one, state) for one, state in found]}, lambda out: out.print(shown))


@click.command("release", epilog="Example: strongroom custody release chat:v1 --embargo 2027-01-31 --out chat.share")
@click.argument("name", metavar="NAME:TAG")
@click.option("--embargo", required=True, metavar="DATE", help="The day under which copies were issued.")
@click.option("--out", required=True, type=Place(path_type=Path), help="A new file for the release share.")
@common
def release(call: Call, name: str, *, embargo: str, out: Path) -> None:
    """Publish the release share: with it every copy of NAME:TAG under that embargo opens. Refused before the day."""
    title, who = CheckpointName.parse(name), call.identity()
    released = release_share(premises_of(call.home), who, title, embargo=embargo, out=out)
    versions: list[Json] = [one.version for one in released.shares]
    call.emit(
        {
            "checkpoint": name,
            "embargo": embargo,
            "versions": versions,
            "share": str(out),
            "released": released.released,
        },
        f"The release share of {name} under {embargo} is in {out}: send it to whoever has a copy. It is no secret.",
    )
