"""``strongroom demo``: a real model is sealed, attacked, exported by two, run from memory; the ledger tells."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from strongroom import __version__
from strongroom.cli import tour_copies, tour_extraction, tour_privacy, tour_trace
from strongroom.cli.frame import screen as terminal
from strongroom.cli.frame import table
from strongroom.cli.report_page import LedgerRow, Report, render
from strongroom.cli.tour import Document, Tour, Unexpected, granted, pick, refused
from strongroom.cli.tour_copies import Copies
from strongroom.cli.tour_extraction import Extraction
from strongroom.cli.tour_faults import flipped_bit, plain_pieces, put_in_place, swapped_segments
from strongroom.cli.tour_privacy import TrainingText
from strongroom.cli.tour_serving import Served
from strongroom.cli.tour_trace import Traces
from strongroom.core.clock import SystemClock, stamp
from strongroom.wiring.table import load

CHECKPOINT = "smollm2:v1"
_LEFTOVERS = (
    *("home", "passphrases", "exported", "stolen", "older", "entry.tlog-proof"),
    *("terms.txt", "acme.txt", "zenith.txt", "human.txt"),
    *tour_copies.LEFTOVERS,
    *tour_trace.LEFTOVERS,
    *tour_extraction.LEFTOVERS,
    *tour_privacy.LEFTOVERS,
)
PROMPT = "Explain in one short paragraph why a bank keeps its gold in a strongroom."


@click.command("demo", epilog="Example: strongroom demo --work ./.demo")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="The folder for model, home and report; what an earlier tour left there goes.",
)
def demo(work: Path) -> int:
    """Take the tour: seal a model, attack it, trace a leaked copy, serve it, tell whose text is whose, prove it all."""
    screen = terminal()
    work = work.resolve()
    for leftover in _LEFTOVERS:
        place = work / leftover
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    tour = Tour(work, screen)
    began = time.monotonic()
    told = _Story(tour, _model(work, screen))
    try:
        for act in told.acts():
            act()
    finally:
        told.served.close()
    _tell(told.rows, screen)
    _show(tour, screen)
    report = work / "report.html"
    report.write_text(render(told.report(time.monotonic() - began)), encoding="utf-8")
    failed = [one for one in tour.steps if one.outcome == "failed"]
    screen.print(f"\n{len(tour.steps)} steps, {len(failed)} failed, {time.monotonic() - began:.0f} s", markup=False)
    screen.print(f"The report: {report}\nThe home: {tour.home} (passphrases beside it)", markup=False)
    return 1 if failed else 0


def _model(work: Path, screen: Console) -> Path:
    """Return the demo's model as a safetensors folder, converted at the first run."""
    screen.print("SmolLM2-135M-Instruct, from its package, as safetensors (converted once)", style="bold")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("converting", total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found: Path = load("demo-model", "smollm2")(work / "model", step)
    return found


class _Story:
    """The tour's acts, in order."""

    def __init__(self, tour: Tour, model: Path) -> None:
        self.tour = tour
        self.model = model
        self.paragraph = ""
        self.proof = ""
        self.rows: list[LedgerRow] = []
        self.served = Served(tour, CHECKPOINT)
        self.copies = Copies(tour)
        self.traces = Traces(tour, model)

    def acts(self) -> list[Callable[[], None]]:
        """Return the acts."""
        stored = [self.people, self.seal, self.steal, self.tamper, self.rollback, self.export, self.run]
        training = TrainingText(self.tour, CHECKPOINT)
        rest = (self.copies, self.traces, Extraction(self.tour), training, self.served)
        return [*stored, *(act for one in rest for act in one.acts()), self.ledger]

    def people(self) -> None:
        """A home with its people, each with a passphrase of their own."""
        call, tour = self.tour.call, self.tour

        def make() -> str:
            granted(call("init", "--passphrase-file", str(tour.passphrase("owner"))))
            for name, role in (("carla", "custodian"), ("rosa", "researcher"), ("ada", "auditor")):
                first = str(tour.passphrase(f"{name}.first"))
                granted(call("access", "add", name, "--role", role, "--new-passphrase-file", first, who="owner"))
                own = str(tour.passphrase(name))
                arguments = ["--as", name, "--passphrase-file", first, "--new-passphrase-file", own]
                granted(call("access", "passwd", *arguments))
            return "owner, carla (custodian), rosa (researcher), ada (auditor); each chose a passphrase of their own"

        tour.step("A home with four people", "init, add people, everybody changes the passphrase they were given", make)

    def seal(self) -> None:
        """The model is sealed."""
        tour = self.tour

        def seal() -> str:
            done = granted(tour.call("custody", "seal", str(self.model), CHECKPOINT, who="carla"))
            checked = granted(tour.call("custody", "verify", CHECKPOINT))
            size = int(pick(done, "bytes"))
            return f"{pick(done, 'tensors')} tensors, {size:,} bytes; {pick(checked, 'segments')} segments verified"

        tour.step("Carla seals a real language model", "seal, then verify without any key", seal)

    def steal(self) -> None:
        """A copy of the sealed folder is worth nothing, and reading the books gives no key."""
        tour = self.tour

        def copy() -> str:
            stolen = tour.work / "stolen"
            shutil.copytree(self._folder(), stolen)
            found, asked = plain_pieces(self.model / "model.safetensors", stolen)
            if found:
                raise Unexpected(f"{found} of {asked} pieces of the plain weights are in the sealed copy")
            return f"0 of {asked} random 64-byte pieces of the weights are in it; names and shapes are sealed too"

        tour.step("An insider copies the sealed folder", "look for the weights in the copy", copy)
        tour.step(
            "Ada, the auditor, tries to open it",
            "digest as somebody without the right",
            lambda: refused(tour.call("custody", "digest", CHECKPOINT, who="ada"), "access.not_permitted"),
            refusal=True,
        )

    def tamper(self) -> None:
        """Flipped bits and swapped segments are named, and the untouched copy is accepted again."""
        tour = self.tour

        def flip() -> str:
            with flipped_bit(self._payload()) as place:
                said = refused(tour.call("custody", "verify", CHECKPOINT), "custody.segment_altered")
            granted(tour.call("custody", "verify", CHECKPOINT))
            return f"byte {place:,}: {said}"

        def swap() -> str:
            with swapped_segments(self._payload()):
                said = refused(tour.call("custody", "verify", CHECKPOINT), "custody.segment_altered")
            granted(tour.call("custody", "verify", CHECKPOINT))
            return said

        tour.step("One bit is flipped in the weights", "verify; then undo, and verify again", flip, refusal=True)
        tour.step("Two segments are swapped", "verify; then undo, and verify again", swap, refusal=True)

    def rollback(self) -> None:
        """An older authentic version put in place of the newer one is refused."""
        tour = self.tour

        def older() -> str:
            first = self._folder()
            granted(tour.call("custody", "seal", str(self.model), CHECKPOINT, who="carla"))
            with put_in_place(first, self._folder()):
                said = refused(tour.call("custody", "digest", CHECKPOINT, who="rosa"), "custody.rolled_back")
            granted(tour.call("custody", "verify", CHECKPOINT))
            return said

        tour.step("The older version is put in place of the newer", "seal version 2, bring back 1", older, refusal=True)

    def export(self) -> None:
        """Plain files leave only by two people's consent, once."""
        tour = self.tour
        words = ("custody", "export", CHECKPOINT, str(tour.work / "exported"), "--purpose", "hand-over to evaluation")

        def waits() -> str:
            return refused(tour.call(*words, who="carla"), "access.approval_needed")

        def alone() -> str:
            return refused(tour.call("access", "approve", self._request(), who="carla"), "access.self_approval")

        def together() -> str:
            granted(tour.call("access", "approve", self._request(), who="owner"))
            done = granted(tour.call(*words, who="carla"))
            same = (tour.work / "exported" / "model.safetensors").read_bytes() == (
                self.model / "model.safetensors"
            ).read_bytes()
            shutil.rmtree(tour.work / "exported")
            if not same:
                raise Unexpected("the exported weights differ from the sealed ones")
            return f"{int(pick(done, 'bytes')):,} bytes, identical to what was sealed"

        tour.step("Carla alone tries to export", "export", waits, refusal=True)
        tour.step("Carla approves her own request", "approve", alone, refusal=True)
        tour.step("The owner approves, the same command works", "approve, export, compare", together)
        tour.step("The approval is used up", "export again", waits, refusal=True)

    def run(self) -> None:
        """The model runs from memory."""
        tour = self.tour

        def write() -> str:
            words = ("engine", "generate", CHECKPOINT, "--prompt", PROMPT, "--max-new-tokens", "120")
            done = granted(tour.call(*words, who="rosa"))
            self.paragraph = pick(done, "text").strip()
            tour.screen.print(f"\n{self.paragraph}\n", style="italic", markup=False)
            return f"{pick(done, 'new_tokens')} tokens, from weights that were decrypted into memory only"

        def program() -> str:
            code = "import sys; print('{\"header\": %d}' % int.from_bytes(open(sys.argv[1], 'rb').read(8), 'little'))"
            command = ("custody", "exec", CHECKPOINT, "--", sys.executable, "-c", code, "{model}/model.safetensors")
            header = pick(tour.call(*command, who="rosa"), "header")
            return f"a program read the model's header ({header} bytes) through a path that lived as long as it did"

        tour.step("Rosa lets the sealed model write", "open in memory, generate", write)
        tour.step("Rosa runs a program of her own over it", "exec", program)

    def ledger(self) -> None:
        """What happened, provably."""
        tour = self.tour

        def story() -> str:
            verified = granted(tour.call("ledger", "verify"))
            entries = granted(tour.call("ledger", "tail", "-n", "200"))["entries"]
            self.rows = [_row(one) for one in entries] if isinstance(entries, list) else []  # type: ignore[reportUnknownVariableType]
            return f"{pick(verified, 'size')} entries, every one re-read, root {pick(verified, 'root')[:16]}…"

        def prove() -> str:
            index = max(row.index for row in self.rows if row.action == "custody.export" and row.outcome == "granted")
            bundle = tour.work / "entry.tlog-proof"
            proof = granted(tour.call("ledger", "prove", str(index), "--out", str(bundle)))
            self.proof = pick(proof, "bundle")
            granted(tour.call("ledger", "check", str(bundle), "--vkey", pick(proof, "vkey")))
            return f"entry {index} (the export that two people allowed) proven from one file and a public key"

        tour.step("The ledger tells the story", "verify, tail", story)
        tour.step("A proof that a stranger checks offline", "prove, check", prove)

    def report(self, seconds: float) -> Report:
        """Return the report of the tour."""
        return Report(
            title="Strongroom: the tour",
            made_at=stamp(SystemClock().now()),
            steps=self.tour.steps,
            prompt=PROMPT,
            paragraph=self.paragraph,
            answers=self.served.answers,
            ledger=self.rows,
            proof=self.proof,
            environment=[
                ("Strongroom", __version__),
                ("Python", platform.python_version()),
                ("System", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"),
                ("Model", "SmolLM2-135M-Instruct"),
                ("Time", f"{seconds:.0f} s"),
            ],
        )

    def _folder(self) -> Path:
        return self.tour.home / "sealed" / pick(self.tour.call("custody", "ls"), "checkpoints", 0, "id")

    def _payload(self) -> Path:
        return max(self._folder().glob("*.sealed"), key=lambda path: path.stat().st_size)

    def _request(self) -> str:
        return pick(self.tour.call("access", "requests"), "requests", 0, "id")


def _row(entry: Document) -> LedgerRow:
    return LedgerRow(
        index=int(pick(entry, "index")),
        at=pick(entry, "at"),
        who=pick(entry, "who"),
        action=pick(entry, "action"),
        thing=pick(entry, "object"),
        outcome=pick(entry, "outcome"),
        why=pick(entry, "why"),
    )


def _tell(rows: list[LedgerRow], screen: Console) -> None:
    columns = ("#", "who", "did what", "to what", "outcome", "why")
    cells = [(row.index, row.who, row.action, row.thing, row.outcome, row.why) for row in rows]
    styles = [{"refused": "yellow", "failed": "red"}.get(row.outcome, "") for row in rows]
    screen.print("\nThe ledger's story", style="bold")
    screen.print(table(*columns, rows=cells, styles=styles))


def _show(tour: Tour, screen: Console) -> None:
    words = {"ok": "done", "refused": "refused, as it should be", "failed": "FAILED"}
    rows = [(at, one.name, words[one.outcome], f"{one.seconds:.1f}") for at, one in enumerate(tour.steps, start=1)]
    styles = ["red" if one.outcome == "failed" else "green" for one in tour.steps]
    screen.print("\nWhat happened", style="bold")
    screen.print(table("#", "what was tried", "outcome", "seconds", rows=rows, styles=styles))
