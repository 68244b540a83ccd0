"""What the projection attack says to a server and hears from it: OpenAI's API, and what vLLM and llama.cpp add."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

Kind = Literal["chat", "text", "echo", "whole", "embed"]
PATHS: Final[Mapping[Kind, str]] = {
    "chat": "/v1/chat/completions",
    "text": "/v1/completions",
    "echo": "/v1/completions",
    "whole": "/completion",
    "embed": "/v1/embeddings",
}
_OK: Final = 200
_T = TypeVar("_T")


def batched(all_of: Iterable[_T], many: int) -> Iterator[tuple[_T, ...]]:
    """Give things in tuples of `many`, the last one shorter."""
    left = iter(all_of)
    while some := tuple(islice(left, many)):
        yield some


class Query(NamedTuple):
    """One request, about the prompt `row`."""

    kind: Kind
    row: int
    bias: tuple[tuple[int, float], ...] = ()
    top: int = -1  # likeliest tokens wanted in each place; -1: no log probabilities
    tokens: tuple[int, ...] = ()  # that are asked for by number; of an `echo` the one that stands at the end
    length: int = 1  # tokens to write


class Answer(NamedTuple):
    """What came back. All log probabilities are nats, by token."""

    status: int
    code: str = ""
    written: tuple[int, ...] = ()
    places: tuple[tuple[tuple[int, float], ...], ...] = ()  # of each place written, the likeliest tokens
    named: tuple[tuple[int, float], ...] = ()
    vector: tuple[float, ...] = ()
    tokens: int = 0  # that the server counts

    @property
    def is_given(self) -> bool:
        """Whether it was answered."""
        return self.status == _OK


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Token(_Top):
    top_logprobs: list[_Top] = []


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None
    token_logprobs: list[float | None] = []


class _Said(msgspec.Struct):
    content: str | None = None


class _Named(msgspec.Struct):
    logprob: float


class _Choice(msgspec.Struct):
    message: _Said = msgspec.field(default_factory=_Said)
    logprobs: _Logprobs | None = None
    prompt_logprobs: list[dict[int, _Named]] = []


class _Id(msgspec.Struct):
    id: int
    logprob: float


class _Whole(msgspec.Struct):
    top_logprobs: list[_Id]


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Error(msgspec.Struct):
    code: str | None = None


class _Usage(msgspec.Struct):
    total_tokens: int = 0


class _Document(msgspec.Struct):
    choices: list[_Choice] = []
    completion_probabilities: list[_Whole] = []
    data: list[_Vector] = []
    usage: _Usage = msgspec.field(default_factory=_Usage)
    error: _Error = msgspec.field(default_factory=_Error)


_decode = msgspec.json.Decoder(_Document, strict=False).decode


class Codec:
    """Writes requests and reads answers, as somebody who knows the model's tokenizer."""

    def __init__(self, names: Sequence[str], prompts: Sequence[str], *, model: str) -> None:
        """Know the tokens' strings and the prompts that will be asked about."""
        self._names = names
        self._ids = {name: token for token, name in enumerate(names)}
        self._prompts = prompts
        self._model = json.dumps(model)

    def body(self, query: Query) -> str:
        """Return a request's body."""
        prompt = self._prompts[query.row]
        if query.kind == "chat":
            return self._chat(query, json.dumps(prompt))
        if query.kind == "embed":
            return f'{{"model":{self._model},"input":{json.dumps(prompt)}}}'
        if query.kind == "echo":
            text = json.dumps(f"{prompt} {self._names[query.tokens[0]]}")
            return f'{{"model":{self._model},"prompt":{text},"max_tokens":1,"logprobs":1,"echo":true}}'
        more = (
            f'"n_probs":{len(self._names)}'
            if query.kind == "whole"
            else f'"prompt_logprob_token_ids":{json.dumps(query.tokens)}'
        )
        return f'{{"model":{self._model},"prompt":{json.dumps(prompt)},"max_tokens":1,{more}}}'

    def _chat(self, query: Query, prompt: str) -> str:
        bias = ",".join([f'"{token}":{value!r}' for token, value in query.bias])
        return (
            f'{{"model":{self._model},"messages":[{{"role":"user","content":{prompt}}}],'
            f'"max_tokens":{query.length},"temperature":0'
            + (f',"logit_bias":{{{bias}}}' if query.bias else "")
            + (f',"logprobs":true,"top_logprobs":{query.top}' if query.top >= 0 else "")
            + "}"
        )

    def answer(self, query: Query, status: int, raw: bytes) -> Answer:
        """Read the answer to a request."""
        said = _decode(raw)
        if status != _OK:
            return Answer(status, said.error.code or "")
        tokens = said.usage.total_tokens or 1
        if said.data:
            return Answer(status, vector=tuple(said.data[0].embedding), tokens=tokens)
        if said.completion_probabilities:
            found = said.completion_probabilities[0].top_logprobs
            return Answer(status, named=tuple([(one.id, one.logprob) for one in found]), tokens=tokens)
        return self._chosen(query, said.choices[0], tokens) if said.choices else Answer(status)

    def _chosen(self, query: Query, choice: _Choice, tokens: int) -> Answer:
        if query.kind == "echo":
            value = choice.logprobs.token_logprobs[-1] if choice.logprobs else None
            return Answer(_OK, named=() if value is None else ((query.tokens[0], value),), tokens=tokens)
        named = [(token, one.logprob) for each in choice.prompt_logprobs for token, one in each.items()]
        content = (choice.logprobs.content if choice.logprobs else None) or []
        places = tuple([tuple([(self._ids[one.token], one.logprob) for one in at.top_logprobs]) for at in content])
        # of several tokens the text does not tell which they were
        word = self._ids.get(choice.message.content or "") if query.length == 1 else None
        written = () if word is None else (word,)
        return Answer(_OK, written=written, places=places, named=tuple(named), tokens=tokens)
