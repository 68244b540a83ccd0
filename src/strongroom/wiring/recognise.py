"""Whose text is it: the mark master, every key that was ever given out, the tokenizer, and the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import NothingMarked, NoTokenizer
from strongroom.custody.housekeys import MARK_MASTER
from strongroom.custody.tensors import SealedTensors, as_numpy
from strongroom.custody.vault import Purpose
from strongroom.ledger.journal import Act, Detail
from strongroom.watermark.attribute import Verdict, attribute
from strongroom.watermark.common import common_runs
from strongroom.watermark.kept_tokenizers import Tokenizers
from strongroom.watermark.prf import I64
from strongroom.wiring.home import Home
from strongroom.wiring.serving import Serving, serving_of
from strongroom.wiring.table import load

TOKENIZER = "tokenizer.json"
Read = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Recognised:
    """A verdict, and the tokenizer (its SHA-256) that it was reached with."""

    verdict: Verdict
    tokenizer: str


def recognise(
    home: Home, who: Identity, text: str, *, checkpoint: CheckpointName | None = None, harmless: Sequence[str] = ()
) -> Recognised:
    """Say which account's mark `text` carries, if any; by the tokenizer of `checkpoint`, or else of all that served.

    Runs of tokens that stand in one of the `harmless` texts too (boilerplate, quotations) are left out. The question
    and the answer are in the ledger, the text is not.

    Raises:
        NotPermitted: the policy does not let `who` ask.
        NothingMarked: no mark was ever given out.
        NoTokenizer: the tokenizer is not known, and `who` may not open `checkpoint` to read it.

    """
    serving = serving_of(home)
    question = Question("watermark.detect")
    home.desk.require(who, question)
    if not serving.housekeys.exists(MARK_MASTER):
        raise NothingMarked("no mark was ever given out", where="home")
    master = serving.master(who, question)
    keys = serving.register(master).candidates()
    if not keys:
        raise NothingMarked("no mark was ever given out", where="home")
    readers = _readers(_tokenizers(serving, who, checkpoint, master=master))
    verdicts = [
        Recognised(attribute(read(text), keys, common=_common(read, harmless), readings=len(readers)), digest)
        for digest, read in readers.items()
    ]
    best = min(verdicts, key=lambda one: one.verdict.log10_p)
    verdict = best.verdict
    detail: Detail = {"verdict": verdict.verdict, "scored": verdict.scored, "candidates": verdict.candidates}
    if verdict.account:
        detail["account"] = verdict.account
    home.journal.record(Act(who.label, "watermark.detect", "home"), "done", detail=detail)
    return best


def keep_tokenizer(home: Home, who: Identity, checkpoint: CheckpointName, *, master: Secret) -> None:
    """Keep the tokenizer of a checkpoint, which `who` must be allowed to open."""
    with home.vault.open(who, checkpoint, Purpose("keep the tokenizer", {"for": "recognise texts"})) as reader:
        sealed = SealedTensors(reader, as_numpy)
        if TOKENIZER not in sealed.files():
            raise NoTokenizer("the checkpoint has no tokenizer.json", where=str(checkpoint))
        Tokenizers(home.records, master).keep(str(checkpoint), sealed.read_file(TOKENIZER))


def _tokenizers(
    serving: Serving, who: Identity, checkpoint: CheckpointName | None, *, master: Secret
) -> dict[str, bytes]:
    """Return the tokenizers to read a text with, by SHA-256."""
    kept, title = Tokenizers(serving.home.records, master), None if checkpoint is None else str(checkpoint)
    try:
        return kept.all(title)
    except NoTokenizer:
        if checkpoint is None or serving.home.desk.may(who, Question("custody.open", checkpoint)) != 0:
            raise
    keep_tokenizer(serving.home, who, checkpoint, master=master)
    return kept.all(title)


def _readers(tokenizers: dict[str, bytes]) -> dict[str, Read]:
    """Return what makes token ids of a text, by each tokenizer."""
    make: Callable[[bytes], Read] = load("tokenizer", "hf")
    return {digest: make(raw) for digest, raw in tokenizers.items()}


def _common(read: Read, harmless: Sequence[str]) -> I64:
    """Return the runs that stand in any of the harmless texts."""
    return common_runs([read(text) for text in harmless], at_least=1)
