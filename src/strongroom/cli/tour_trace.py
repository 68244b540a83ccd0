"""The tour's traces: a laundered copy, a derivative of the original, somebody else's fine-tune, a stranger."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from rich.console import Console
from rich.progress import Progress

from strongroom.cli.tour import Document, Tour, Unexpected, granted, pick
from strongroom.cli.tour_copies import LEAKER, TUNED
from strongroom.wiring.table import load

BASE: Final = "smollm2-public"
LEFTOVERS: Final = ("laundered", "derived.gguf", "sibling", "stranger", "trace.json", "trace.html")


class Traces:
    """Files that turn up, and what they are found to be."""

    def __init__(self, tour: Tour, model: Path) -> None:
        """Trace files to the checkpoints of the tour's home; `model` is the public base of one of them."""
        self._tour, self._model = tour, model

    def acts(self) -> list[Callable[[], None]]:
        """Return the acts."""
        return [self.base, self.laundered, self.derived, self.sibling, self.stranger]

    def base(self) -> None:
        """What anybody may have started from is no secret of ours."""
        tour = self._tour

        def add() -> str:
            made = granted(tour.call("lineage", "base", "add", BASE, str(self._model), who="carla"))
            return f"{BASE}, digest {pick(made, 'digest')[:16]}…: sharing it proves nothing against anybody"

        tour.step("The public model that the fine-tune began with is registered", "lineage base add", add)

    def laundered(self) -> None:
        """A partner hides the copy behind a rotation, shuffled units and scales: it computes what it did."""
        tour, target = self._tour, self._tour.work / "laundered"
        report = tour.work / "trace.json"

        def trace() -> str:
            load("leak", "laundered")(self._plain(), target)
            shutil.rmtree(self._plain())
            words = ("lineage", "trace", str(target), "--report", str(report), "--disclose")
            found = granted(tour.call(*words, who="carla"))
            self._expect(found, "match", recipient=LEAKER)
            kinds = ", ".join(sorted(_kinds(found)))
            return f"match {LEAKER}: p = {self._chance(found, 'recipient')}, exact; undone and named: {kinds}"

        def replay() -> str:
            vkey = pick(granted(tour.call("ledger", "prove", "0")), "vkey")
            found = granted(tour.call("lineage", "replay", str(report), "--vkey", vkey, "--suspect", str(target)))
            return f"made again from one file: {pick(found, 'verdict')} {pick(found, 'recipient', 'name')}"

        tried = "turn the residual stream, fold the norms, shuffle and rescale units; lineage trace"
        tour.step(f"{LEAKER} launders its copy, and it is named all the same", tried, trace)
        tour.step("A stranger replays the trace offline", "lineage replay", replay)

    def derived(self) -> None:
        """A file made from the original, which bears nobody's mark, is traced to the checkpoint alone."""
        tour, target = self._tour, self._tour.work / "derived.gguf"

        def trace() -> str:
            load("leak", "gguf")(load("demo-model", "fine-tuned")(tour.work / "model"), target, "Q8_0")
            found = granted(tour.call("lineage", "trace", str(target), who="carla"))
            self._expect(found, "match", recipient="None")
            return f"match {TUNED}, nobody's copy: {pick(found, 'reason')}"

        tour.step("A quantised file of the original turns up", "Q8_0; lineage trace", trace)

    def sibling(self) -> None:
        """Somebody else's fine-tune of the same public model is related, and no theft."""
        tour, target = self._tour, self._tour.work / "sibling"

        def trace() -> str:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("somebody else's fine-tune", total=None)

                def step(done: int, total: int) -> None:
                    bar.update(task, completed=done, total=total)

                load("demo-model", "neighbour")(self._model, target, step)
            found = granted(tour.call("lineage", "trace", str(target), who="carla"))
            if pick(found, "verdict") != "common_ancestor":
                raise Unexpected(f"{pick(found, 'verdict')}: {pick(found, 'reason')}")
            return f"common_ancestor: {pick(found, 'reason')}"

        tour.step(
            "Somebody else's fine-tune of the public model turns up", "10 steps of training; lineage trace", trace
        )

    def stranger(self) -> None:
        """A model of its own is nobody's."""
        tour, target = self._tour, self._tour.work / "stranger"

        def trace() -> str:
            made = load("demo-model", "stranger")(tour.work / "model")
            shutil.copytree(made, target)
            found = granted(tour.call("lineage", "trace", str(target), who="carla"))
            if pick(found, "verdict") != "no_match":
                raise Unexpected(pick(found, "verdict"))
            return f"no_match: {pick(found, 'reason')}"

        tour.step("A model of its own turns up", "train a small one from nothing; lineage trace", trace)

    def _plain(self) -> Path:
        return self._tour.work / "partners" / "plain"

    def _expect(self, found: Document, verdict: str, *, recipient: str) -> None:
        told = (pick(found, "verdict"), pick(found, "checkpoint"), pick(found, "recipient", "name"))
        if told != (verdict, TUNED, recipient):
            raise Unexpected(" ".join(told))

    def _chance(self, found: Document, part: str) -> str:
        return f"10^{float(pick(found, part, 'log10_p')):.0f}"


def _kinds(found: Document) -> set[str]:
    """Return the kinds of the steps that a trace names."""
    steps = cast("list[object]", found["derivation"])
    return {pick(step, "kind") for step in steps}
