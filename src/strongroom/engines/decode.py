"""The one loop that writes: several texts at once, which join and leave between two steps.

A step is one forward pass over the rows that are under way, and one piece of the prompt of each row that is joining: a
long prompt holds the others up by a piece at a time. Rows of different lengths share a batch by padding on the left,
which mask and positions hide from the model: a row's text does not depend on its neighbours. Every draw goes through
the same arithmetic (strongroom.watermark), whether it carries a mark or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from strongroom.core.errors import MissingExtra, StrongroomError
from strongroom.core.serving_errors import EngineFailed
from strongroom.engines.kv import Cache, join, keep, new_cache, padded
from strongroom.engines.row import Row, Wrote
from strongroom.engines.sampling import shape
from strongroom.engines.tokens import Tokens
from strongroom.engines.transformers_load import CausalModel
from strongroom.ports.completions import TokenLogprob
from strongroom.watermark.arrays import Array
from strongroom.watermark.gumbel import choose

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs torch, which is not installed", where=str(missing.name)) from missing

_CHUNK = 128  # tokens of a prompt that are read in one step

Outcome = tuple[Row, Wrote | StrongroomError]


@dataclass(slots=True)
class _Joining:
    """A row whose prompt is being read, by itself."""

    row: Row
    cache: Cache = field(default_factory=new_cache)
    done: int = 0


class Batch:
    """Texts that are written together. One thread; nothing here waits for anything."""

    def __init__(self, model: CausalModel, tokens: Tokens) -> None:
        """Write with `model`, whose words `tokens` knows."""
        self._model = model
        self._tokens = tokens
        self._joining: list[_Joining] = []
        self._rows: list[Row] = []
        self._gone: set[Row] = set()
        self._cache = new_cache()
        self._mask = torch.zeros((0, 0), dtype=torch.int64)

    def __len__(self) -> int:
        """Return how many rows are under way or joining."""
        return len(self._rows) + len(self._joining) - len(self._gone)

    def join(self, row: Row) -> None:
        """Let `row` in at the next step."""
        self._joining.append(_Joining(row))

    def leave(self, row: Row) -> None:
        """Write no more of `row`."""
        self._joining = [one for one in self._joining if one.row is not row]
        if row in self._rows:
            self._gone.add(row)

    @torch.inference_mode()
    def step(self) -> list[Outcome]:
        """Write one more token of every row; return what each added, or why it failed. Those that ended have left."""
        outcomes = self._advance()
        for one in list(self._joining):
            outcomes += self._read(one)
        return outcomes

    # ── rows under way ───────────────────────────────────────────────────────────────────────────────────────────────
    def _advance(self) -> list[Outcome]:
        rows = [row for row in self._rows if row not in self._gone]
        try:
            self._part()
            if not rows:
                return []
            outcomes = self._write(rows, self._forward())
        except Exception as error:  # noqa: BLE001 - whatever the model raises; the cache may be half-written
            self._rows, self._cache, self._gone = [], new_cache(), set()
            return _all_failed(rows, error)
        self._gone |= {row for row, wrote in outcomes if row.finish or not isinstance(wrote, Wrote)}
        return outcomes

    def _forward(self) -> torch.Tensor:
        """Return the logits of every row's next token."""
        positions = self._mask.sum(-1, keepdim=True)
        self._mask = torch.cat([self._mask, torch.ones_like(positions)], -1)
        last = torch.tensor([[row.new[-1]] for row in self._rows])
        return self._model(
            last, attention_mask=self._mask, position_ids=positions, past_key_values=self._cache, use_cache=True
        ).logits[:, -1]

    def _part(self) -> None:
        """Take out the rows that have gone, and the padding that only they needed the others to have."""
        if not self._gone:
            return
        kept = [place for place, row in enumerate(self._rows) if row not in self._gone]
        self._rows, self._gone = [self._rows[place] for place in kept], set()
        if not kept:
            self._cache = new_cache()
            return
        rows = torch.tensor(kept)
        mask = self._mask.index_select(0, rows)
        cut = mask.shape[1] - int(mask.sum(-1).max())
        self._mask = mask[:, cut:]
        keep(self._cache, rows, cut)

    # ── rows that join ───────────────────────────────────────────────────────────────────────────────────────────────
    def _read(self, one: _Joining) -> list[Outcome]:
        """Read the next piece of a prompt; at its end, write the first token and let the row in."""
        ids = one.row.order.ids[one.done : one.done + _CHUNK]
        start, one.done = one.done, one.done + len(ids)
        try:
            logits = self._model(
                torch.tensor([ids]),
                attention_mask=torch.ones((1, one.done), dtype=torch.int64),
                position_ids=torch.arange(start, one.done)[None],
                past_key_values=one.cache,
                use_cache=True,
            ).logits[:, -1]
            if one.done < len(one.row.order.ids):
                return []
            outcomes: list[Outcome] = self._write([one.row], logits)
            if one.row.finish is None and isinstance(outcomes[0][1], Wrote):
                self._let_in(one)
        except Exception as error:  # noqa: BLE001 - as above; only this row is touched
            outcomes = [(one.row, _failed(error))]
        self._joining.remove(one)
        return outcomes

    def _let_in(self, one: _Joining) -> None:
        self._part()
        mask = torch.ones((1, one.done), dtype=torch.int64)
        join(self._cache, one.cache)
        length = max(self._mask.shape[1], one.done) if self._rows else one.done
        above = padded(self._mask, length, 1) if self._rows else mask[:0]
        self._mask = torch.cat([above, padded(mask, length, 1)])
        self._rows.append(one.row)

    # ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _write(self, rows: Sequence[Row], logits: torch.Tensor) -> list[Outcome]:
        """Choose every row's next token and have the row take it."""
        logits = logits.float().cpu()
        finite = logits.amax(-1).isfinite()
        sound = [bool(one) for one in finite]
        chosen = _chosen(rows, torch.where(finite[:, None], logits, 0.0))
        return [
            self._taken(row, logits[place], chosen[place] if sound[place] else None) for place, row in enumerate(rows)
        ]

    def _taken(self, row: Row, logits: torch.Tensor, token: int | None) -> Outcome:
        if token is None:
            return row, EngineFailed("the model's output is not a number", where="logits")
        try:
            wanted = row.order.top_logprobs
            return row, row.take(token, None if wanted is None else self._logprob(logits, token, wanted))
        except Exception as error:  # noqa: BLE001 - a tokenizer can raise anything; the other rows go on
            return row, _failed(error)

    def _logprob(self, logits: torch.Tensor, token: int, count: int) -> TokenLogprob:
        """Return what the model itself thought of `token`, before temperature and the rest."""
        likely = logits.log_softmax(-1)
        top = likely.topk(min(count, len(likely)))
        pairs = zip(_ids(top.indices), (float(one) for one in top.values), strict=True)
        others = tuple((*self._tokens.spell(one), value) for one, value in pairs)
        return TokenLogprob(*self._tokens.spell(token), float(likely[token]), others)


def _chosen(rows: Sequence[Row], logits: torch.Tensor) -> list[int]:
    """Return every row's next token: the likeliest, or one drawn by the row's own seed. Biases count here alone.

    What is shown of log probabilities is the model's own, before any bias (vLLM's ``raw_logprobs``): so a biased token
    shows as the one that was written, and drags none into sight.
    """
    logits = _biased(rows, logits)
    tokens = _ids(logits.argmax(-1))
    hot = [place for place, row in enumerate(rows) if row.hot]
    if hot:
        shaped = shape(logits[hot], [rows[place].order.sampling for place in hot])
        seeds = torch.tensor([rows[place].seed() for place in hot])
        drawn = choose(cast("Array", shaped.numpy()), cast("Array", seeds.numpy()))
        for place, token in zip(hot, cast("Iterable[int]", drawn), strict=True):
            tokens[place] = int(token)
    return tokens


def _biased(rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
    """Return the logits (rows, vocabulary) with what the rows' orders add to them."""
    if not any(row.order.logit_bias for row in rows):
        return logits
    logits = logits.clone()
    for place, row in enumerate(rows):
        for token, bias in row.order.logit_bias:
            logits[place, token] += bias
    return logits


def _ids(tokens: torch.Tensor) -> list[int]:
    return [int(one) for one in tokens]


def _all_failed(rows: Sequence[Row], error: Exception) -> list[Outcome]:
    return [(row, _failed(error)) for row in rows]


def _failed(error: Exception) -> StrongroomError:
    """Return an error that quotes nothing of what was read or written."""
    return error if isinstance(error, StrongroomError) else EngineFailed(type(error).__name__, where="engine")
