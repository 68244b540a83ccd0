"""The gateway's policy without the gateway: the same reader, tier, counts and veil, before logits in this process.

For models whose attack would take hours over sockets. That both decide and show the same is checked by sending some of
the same requests through a real gateway (`project.agreement`).
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Final

import msgspec

from strongroom.attacks.project_wire import PATHS, Answer, Codec, Query
from strongroom.attacks.stock_logits import Places
from strongroom.ports.completions import TokenLogprob
from strongroom.serving.disclosure import gate
from strongroom.serving.disclosure.bias_sets import BiasSets, bias_digest, prompt_digest
from strongroom.serving.disclosure.fields import path_rule
from strongroom.serving.disclosure.tiers import Tier
from strongroom.serving.soften import Veil, seen
from strongroom.serving.veil_vectors import VectorVeil
from strongroom.serving.wire import Wanted, read_chat, read_embed, read_text
from strongroom.serving.wire_errors import Refusal

VEIL: Final = bytes(range(32))
_TODAY: Final = "2026-01-01"
_WHO: Final = "thief"
_OK: Final = 200


class Bare:
    """A stock server's answers, without sockets."""

    def __init__(self, places: Places) -> None:
        """Answer from `places`."""
        self._places = places

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the answers, in order."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        places, row = self._places, query.row
        if query.kind == "whole":
            values: list[float] = places.whole(row).tolist()
            return Answer(_OK, named=tuple(enumerate(values)), tokens=9)
        if query.kind == "embed":
            return Answer(_OK, vector=tuple(places.states[row].tolist()), tokens=8)
        if query.kind in {"text", "echo"}:
            return Answer(_OK, named=tuple(zip(query.tokens, places.named(row, query.tokens), strict=True)), tokens=9)
        last = (row + step for step in range(query.length))
        tops = [places.likeliest(one % len(places.prompts), query.bias, max(1, query.top)) for one in last]
        shown = tuple(tuple(top) for top in tops) if query.top >= 0 else ()
        return Answer(_OK, written=tuple(top[0][0] for top in tops), places=shown, tokens=8 + len(tops))


class Policed:
    """The same behind a tier."""

    def __init__(self, places: Places, tier: Tier, codec: Codec) -> None:
        """Judge by `tier`; requests are written by `codec` and read as the gateway reads them."""
        self._places = places
        self._tier = tier
        self._codec = codec
        self._sets = BiasSets()
        self._vectors = VectorVeil(VEIL)
        self._raw = [tuple(name.encode()) for name in places.names]
        self._ids = {raw: token for token, raw in enumerate(self._raw)}

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the answers, in order."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        body = self._codec.body(query).encode("utf-8", "surrogatepass")
        if query.kind == "whole":
            return _refused(Refusal("not_found", rule=path_rule(PATHS["whole"])))
        if query.kind == "embed":
            return self._embedded(query, body)
        wanted = read_chat(body, default_tokens=1024) if query.kind == "chat" else read_text(body)
        refusal = wanted if isinstance(wanted, Refusal) else self._refusal(wanted)
        if isinstance(wanted, Refusal) or refusal is not None:
            return _refused(refusal or Refusal("bad_request"))
        return self._written(query, wanted)

    def _refusal(self, wanted: Wanted) -> Refusal | None:
        """Judge as `gateway.discloses` does."""
        for one in gate.refusals(wanted, self._tier):
            return one
        if not wanted.logit_bias:
            return None
        prompt = prompt_digest(VEIL, wanted.turns, wanted.prompt)
        bias = bias_digest(wanted.logit_bias)
        if self._sets.admit(_WHO, _TODAY, prompt=prompt, bias=bias, tier=self._tier):
            return None
        return Refusal("bias_sets_exceeded", "logit_bias", rule="bias_sets")

    def _written(self, query: Query, wanted: Wanted) -> Answer:
        top, names = wanted.top_logprobs, self._places.names
        count = 1 if top is None else max(1, seen(self._tier, chat=wanted.shape == "chat"))
        rows = [(query.row + step) % len(self._places.prompts) for step in range(wanted.max_tokens)]
        chosen = [self._places.likeliest(row, wanted.logit_bias, count) for row in rows]
        written = tuple(each[0][0] for each in chosen)
        if top is None:
            return Answer(_OK, written=written, tokens=8 + len(rows))
        veil = Veil(VEIL, self._tier, top=top, turns=wanted.turns, prompt=wanted.prompt)
        told = veil.soften([self._told(names, each) for each in chosen])
        places = tuple(tuple((self._ids[raw], value) for _, raw, value in one.top) for one in told)
        return Answer(_OK, written=written, places=places, tokens=8 + len(rows))

    def _told(self, names: list[str], chosen: list[tuple[int, float]]) -> TokenLogprob:
        top = tuple([(names[token], self._raw[token], value) for token, value in chosen])
        return TokenLogprob(top[0][0], top[0][1], top[0][2], top)

    def _embedded(self, query: Query, body: bytes) -> Answer:
        wanted = read_embed(body)
        refusal = wanted if isinstance(wanted, Refusal) else gate.embeddings(self._tier)
        if isinstance(wanted, Refusal) or refusal is not None:
            return _refused(refusal or Refusal("bad_request"))
        states = self._places.states[query.row].astype("<f4")
        raw = self._vectors.soften(states.tobytes(), wanted.texts, width=len(states), dimensions=wanted.dimensions)
        return Answer(_OK, vector=tuple(array.array("f", raw[0])), tokens=8)


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.kind.status, msgspec.structs.asdict(refusal)["code"])
