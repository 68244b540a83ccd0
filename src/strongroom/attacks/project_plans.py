"""The projection attack's ways of asking, each as a thief would write it against a server that hides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from strongroom.attacks.project_doors import Purse
from strongroom.attacks.project_wire import Answer, Query, batched

_ROUND: Final = 1536  # requests of one round
_LIFT: Final = 100.0  # the largest bias there is
_BASE: Final = 80.0  # … while bisecting: what is added to it must have room below 100
_REACH: Final = 20.0  # nats that a token may be from the reference, either way, while bisecting
HALVINGS: Final = 14  # which leaves a thousandth of a nat
_NAMED: Final = 20  # tokens that vLLM lets a request name (`--max-logprobs`)


@dataclass(frozen=True, slots=True)
class Aim:
    """What is asked about: the logits of `tokens` after `rows` prompts, more of each than the hidden size."""

    rows: range
    tokens: tuple[int, ...]  # the first is the reference
    prompts: int  # that there are in all


class Catch:
    """What was obtained: log probabilities by prompt and token, up to one number a prompt; and vectors."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: dict[int, dict[int, tuple[float, int]]] = {}
        self.vectors: dict[int, tuple[float, ...]] = {}

    def note(self, row: int, values: Iterable[tuple[int, float]]) -> None:
        """Take values that belong to the same number of the prompt as those before; repeats are averaged."""
        kept = self._sums.setdefault(row, {})
        for token, value in values:
            total, count = kept.get(token, (0.0, 0))
            kept[token] = total + value, count + 1

    def join(self, row: int, values: Sequence[tuple[int, float]]) -> None:
        """Take values with a number of their own: tokens that were seen before tell it, or else nothing is taken."""
        known = self.row(row)
        shared = [known[token] - value for token, value in values if token in known]
        if shared or not known:
            shift = float(np.median(shared)) if shared else 0.0
            self.note(row, [(token, value + shift) for token, value in values])

    def row(self, row: int) -> dict[int, float]:
        """Return what is known of one prompt."""
        return {token: total / count for token, (total, count) in self._sums.get(row, {}).items()}

    def seen(self) -> Mapping[int, Mapping[int, float]]:
        """Return all that is known."""
        return {row: self.row(row) for row in self._sums}


Plan = Callable[[Purse, Aim, Catch], None]


def rounds(purse: Purse, queries: Iterable[Query]) -> Iterator[tuple[Query, Answer]]:
    """Ask everything, round by round, for as long as the purse lasts; give what was answered."""
    for some in batched(queries, _ROUND):
        if purse.left <= 0:
            return
        for query, answer in zip(some, purse.ask(some), strict=False):
            if answer.is_given:
                yield query, answer


@dataclass(frozen=True, slots=True)
class Lifted:
    """Carlini's own: lift `top` tokens at a time, the reference among them, into the log probabilities that are shown.

    With `repeats` the means count: fresh noise goes. With `dither` each repeat has other biases: rounding goes, too.
    """

    top: int
    repeats: int = 1
    dither: bool = False

    def __call__(self, purse: Purse, aim: Aim, catch: Catch) -> None:
        """Ask for all of it."""
        for query, answer in rounds(purse, self.queries(aim)):
            shown = dict(answer.places[0]) if answer.places else {}
            free = {token: shown[token] - added for token, added in query.bias if token in shown}
            base = free.get(aim.tokens[0])
            if base is not None:
                catch.note(query.row, [(token, value - base) for token, value in free.items()])

    def queries(self, aim: Aim) -> Iterator[Query]:
        """Give the requests."""
        draw = np.random.default_rng(5)
        groups = [(aim.tokens[0], *some) for some in batched(aim.tokens[1:], self.top - 1)]
        for _ in range(self.repeats):
            for row in aim.rows:
                for group in groups:
                    less = draw.random(len(group)).tolist() if self.dither else [0.0] * len(group)
                    bias = [(token, _LIFT - one) for token, one in zip(group, less, strict=True)]
                    yield Query("chat", row, tuple(bias), self.top)


def by_number(purse: Purse, aim: Aim, catch: Catch) -> None:
    """Ask for tokens by number, as vLLM's `prompt_logprob_token_ids` lets anybody: no bias is needed."""
    queries = (Query("text", row, tokens=some) for row in aim.rows for some in batched(aim.tokens, _NAMED))
    for query, answer in rounds(purse, queries):
        catch.note(query.row, answer.named)


def echoed(purse: Purse, aim: Aim, catch: Catch) -> None:
    """Put the token into the prompt and have it repeated, with its log probability: `echo`."""
    queries = (Query("echo", row, tokens=(token,)) for row in aim.rows for token in aim.tokens)
    for query, answer in rounds(purse, queries):
        catch.note(query.row, answer.named)


def whole(purse: Purse, aim: Aim, catch: Catch) -> None:
    """Ask for the log probabilities of the whole vocabulary: llama.cpp's `n_probs`."""
    wanted = set(aim.tokens)
    for query, answer in rounds(purse, (Query("whole", row) for row in aim.rows)):
        catch.note(query.row, [(token, value) for token, value in answer.named if token in wanted])


def embedded(purse: Purse, aim: Aim, catch: Catch) -> None:
    """Ask for vectors."""
    for query, answer in rounds(purse, (Query("embed", row) for row in aim.rows)):
        catch.vectors[query.row] = answer.vector


@dataclass(frozen=True, slots=True)
class Bisected:
    """No log probabilities: which of two lifted tokens is written compares their logits, and halves the possible."""

    halvings: int

    def __call__(self, purse: Purse, aim: Aim, catch: Catch) -> None:
        """Ask for all of it; what is not answered to the end tells nothing."""
        reference = aim.tokens[0]
        middle = {(row, token): 0.0 for row in aim.rows for token in aim.tokens[1:]}
        step = _REACH / 2
        for _ in range(self.halvings):
            told = {
                (query.row, query.bias[1][0]): answer.written == (query.bias[1][0],)
                for query, answer in rounds(purse, self._queries(middle, reference))
            }
            # what was refused is in no answer, and is not asked again
            middle = {pair: middle[pair] + (step if higher else -step) for pair, higher in told.items()}
            step /= 2
        for (row, token), value in middle.items():
            catch.note(row, ((token, value),))
        for row in {row for row, _ in middle}:
            catch.note(row, ((reference, 0.0),))

    def _queries(self, middle: Mapping[tuple[int, int], float], reference: int) -> Iterator[Query]:
        for (row, token), value in middle.items():
            yield Query("chat", row, ((reference, _BASE), (token, _BASE - value)))
