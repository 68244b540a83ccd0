"""The tour's copies: one for each of three partners, one partner leaks it quantised, and the weights say who."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from strongroom.cli.tour import Tour, Unexpected, granted, pick, refused
from strongroom.wiring.table import load

TUNED: Final = "smollm2:tuned"
PARTNERS: Final = ("north", "south", "east")
LEAKER: Final = "south"
_TOKENS: Final = 8192  # that the mark's cost is measured on here; the command's own default is 100,000
_QUANTISATION: Final = "Q4_0"
LEFTOVERS: Final = ("partners", "leaked.gguf", "evidence.json")


class Copies:
    """A checkpoint's copies, and the acts that issue, receive, leak and recognise them."""

    def __init__(self, tour: Tour) -> None:
        """Issue copies of a fine-tune of the tour's model: the packaged weights lie on a 4-bit grid."""
        self._tour = tour

    def acts(self) -> list[Callable[[], None]]:
        """Return the acts."""
        return [self.partners, self.tuned, self.issue, self.receive, self.leak, self.accuse]

    def partners(self) -> None:
        """Each partner makes a key; Carla notes whose it is."""
        tour = self._tour

        def make() -> str:
            self._place("").mkdir(mode=0o700)
            for name in PARTNERS:
                key = str(self._place(f"{name}.key"))
                granted(tour.call("custody", "recipient", "keygen", "--out", key))
                granted(tour.call("custody", "recipient", "add", name, "--public-key", f"{key}.pub", who="carla"))
            return f"{', '.join(PARTNERS)}: X25519 and ML-KEM-768; the secret halves never leave the partners"

        tour.step("Three partners make keys of their own", "recipient keygen, recipient add", make)

    def tuned(self) -> None:
        """A fine-tune of the model is sealed: it is off the 4-bit grid."""
        tour = self._tour

        def seal() -> str:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("fine-tuning, once", total=None)

                def step(done: int, total: int) -> None:
                    bar.update(task, completed=done, total=total)

                host: Path = load("demo-model", "fine-tuned")(tour.work / "model", step)
            done = granted(tour.call("custody", "seal", str(host), TUNED, who="carla"))
            return (
                f"{pick(done, 'tensors')} tensors in bfloat16; the packaged 4-bit weights would carry no mark for long"
            )

        tour.step("A fine-tune of the model is sealed", "dither, 40 steps of training, seal", seal)

    def issue(self) -> None:
        """Two people issue a copy to each."""
        tour = self._tour
        words = ("custody", "issue", TUNED, "--purpose", "evaluation", "--tokens", str(_TOKENS))

        def order(name: str) -> tuple[str, ...]:
            return (*words, "--to", name, "--out", str(self._place(name)))

        def give() -> str:
            told = ""
            for name in PARTNERS:
                alone = tour.call(*order(name), who="carla")
                refused(alone, "access.approval_needed")
                granted(tour.call("access", "approve", pick(alone, "error", "where"), who="owner"))
                done = granted(tour.call(*order(name), who="carla"))
                cost = float(pick(done, "perplexity_cost"))
                told = f"strength {float(pick(done, 'retained_strength')):.1f}, perplexity {cost:+.3%}"
            return f"{len(PARTNERS)} copies, each read back before it left; {told} on {_TOKENS:,} tokens"

        tour.step("A marked copy is issued to each partner", "issue; the owner approves; issue", give)

    def receive(self) -> None:
        """A partner opens its copy offline, and no other."""
        tour = self._tour

        def own() -> str:
            verified = granted(tour.call(*self._receive("verify", LEAKER, LEAKER)))
            granted(tour.call(*self._receive("digest", LEAKER, LEAKER)))
            return f"issued by {pick(verified, 'issuer')}; every segment verified, opened in memory, without a home"

        def other() -> str:
            return refused(tour.call(*self._receive("digest", "north", LEAKER)), "custody.wrong_key")

        tour.step(f"{LEAKER} opens its copy, offline", "receive verify, digest", own)
        tour.step(f"{LEAKER} tries north's copy", "receive digest with another key", other, refusal=True)

    def leak(self) -> None:
        """The partner exports the copy, quantises it, and passes it on."""
        tour = self._tour

        def pass_on() -> str:
            plain = self._place("plain")
            granted(tour.call(*self._receive("export", LEAKER, LEAKER, str(plain))))
            leaked = tour.work / "leaked.gguf"
            load("leak", "gguf")(plain, leaked, _QUANTISATION)
            return f"{leaked.name}: {_QUANTISATION}, {leaked.stat().st_size:,} bytes, nothing in it says whose it was"

        tour.step(f"{LEAKER} leaks it, quantised to 4 bits", "receive export, GGUF", pass_on)

    def accuse(self) -> None:
        """The weights say whose copy it was, and a stranger can check it."""
        tour = self._tour
        leaked, evidence = str(tour.work / "leaked.gguf"), tour.work / "evidence.json"

        def decode() -> str:
            words = ("lineage", "decode", leaked, "--against", TUNED, "--evidence", str(evidence))
            found = granted(tour.call(*words, who="carla"))
            if (pick(found, "verdict"), pick(found, "recipient")) != ("match", LEAKER):
                raise Unexpected(f"{pick(found, 'verdict')} {pick(found, 'recipient')}")
            chance = f"10^{float(pick(found, 'log10_p')):.0f}"
            return f"match {LEAKER}: p = {chance}, exact, corrected for {pick(found, 'tried')} copies"

        def check() -> str:
            vkey = pick(granted(tour.call("ledger", "prove", "0")), "vkey")
            found = granted(tour.call("lineage", "check", str(evidence), "--vkey", vkey))
            entry = pick(found, "entries", 0, "index")
            return f"recomputed from one file: {pick(found, 'recipient')}; committed to in ledger entry {entry}"

        def original() -> str:
            model = str(tour.work / "model" / "SmolLM2-135M-Instruct")
            found = granted(tour.call("lineage", "decode", model, "--against", TUNED, who="carla"))
            if pick(found, "verdict") != "no_match":
                raise Unexpected(pick(found, "verdict"))
            return (
                f"no_match over {pick(found, 'tried')} copies; p of the best fit 10^{float(pick(found, 'log10_p')):.1f}"
            )

        tour.step("The leaked file names the partner", "lineage decode, over every copy", decode)
        tour.step("A stranger checks the accusation offline", "lineage check", check)
        tour.step("The model that it all began with accuses nobody", "lineage decode", original)

    def _receive(self, verb: str, copy: str, holder: str, *more: str) -> tuple[str, ...]:
        key = str(self._place(f"{holder}.key"))
        return ("custody", "receive", verb, str(self._place(copy)), *more, "--key", key)

    def _place(self, name: str) -> Path:
        return self._tour.work / "partners" / name
