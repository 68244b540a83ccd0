"""An engine that does what the prompt says: the transport seam of the gateway, inside the gateway's own process.

The last turn's text, or the prompt, is a script: `say N` writes N tokens, `wild N` does so whatever the budget is,
`slow N` one every 20 ms, `burst N` all in one turn, `fail CODE`, `die N` fails after N tokens, `hang` says nothing,
`echo` repeats the whole prompt, `write TEXT` writes TEXT three letters at a time, `thought TEXT` thinks
it aloud; `bias` and `seed` write what came of them; `spell TEXT` writes TEXT put back from ROT13, `think TEXT` thinks
it, `drip TEXT` writes it slowly, and of `either TEXT|TEXT` what is asked for again is answered with the second.
A prompt has as many tokens as words. Vectors are 64 numbers made
of the text.
"""

from __future__ import annotations

import asyncio
import codecs
import itertools
import re
import struct
import zlib
from typing import TYPE_CHECKING

from strongroom.ports.completions import Ask, Begun, Embed, Embedded, Ended, Failed, Piece, Sink, TokenLogprob

if TYPE_CHECKING:
    from collections.abc import Iterator


def _prompt(ask: Ask) -> str:
    return ask.prompt if ask.prompt is not None else ask.turns[-1].content


class Scripted:
    def __init__(self, *_where: object) -> None:
        self.loop = asyncio.get_running_loop()
        self.open: dict[str, Sink] = {}

    async def start(self) -> None:
        pass

    def ask(self, ask: Ask | Embed, sink: Sink) -> None:
        self.open[ask.id] = sink
        self.loop.call_soon(self._embed if isinstance(ask, Embed) else self._run, ask)

    def cancel(self, request: str) -> None:
        self.open.pop(request, None)

    def ready(self) -> bool:
        return True

    def close(self) -> None:
        for request in list(self.open):
            self._last(request, Failed(id=request, code="unavailable", message="closed"))

    def _run(self, ask: Ask) -> None:
        verb, *words = _prompt(ask).split()
        prompt = sum(len(turn.content.split()) for turn in ask.turns) or len((ask.prompt or "").split())
        if verb == "fail":
            self._last(ask.id, Failed(id=ask.id, code=words[0], message="as told"))
        elif verb == "echo":
            self._echo(ask, prompt)
        elif verb in {"spell", "think", "drip", "either"}:
            self._spell(ask, prompt, verb=verb)
        elif verb in {"write", "bias", "thought", "seed"}:
            self._recite(ask, prompt, verb=verb)
        elif prompt >= ask.budget and verb != "wild":
            self._last(ask.id, Failed(id=ask.id, code="prompt_too_long", message="no room"))
        elif verb != "hang":
            self._write(ask, verb, prompt=prompt, many=int(words[0]))

    def _echo(self, ask: Ask, prompt: int) -> None:
        self._say(ask.id, Begun(id=ask.id, prompt_tokens=prompt, marked=False))
        self._say(ask.id, Piece(id=ask.id, text=_prompt(ask), tokens=prompt))
        self._end(ask, prompt, prompt, finish="stop")

    def _recite(self, ask: Ask, prompt: int, *, verb: str) -> None:
        said = {"bias": str(ask.logit_bias), "seed": str(ask.seed)}
        text = said.get(verb) or _prompt(ask).partition(" ")[2]
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        self._say(ask.id, Begun(id=ask.id, prompt_tokens=prompt, marked=False))
        for one in pieces:
            shown = () if ask.top_logprobs is None else (TokenLogprob(one, tuple(one.encode()), -0.123456789),)
            said, thought = ("", one) if verb == "thought" else (one, "")
            piece = Piece(id=ask.id, text=said, tokens=1, logprobs=() if thought else shown, reasoning=thought)
            self._say(ask.id, piece)
        if verb == "thought":
            self._say(ask.id, Piece(id=ask.id, text="answer", tokens=1))
        self._end(ask, prompt, len(pieces) + (verb == "thought"), finish="stop")

    def _spell(self, ask: Ask, prompt: int, *, verb: str) -> None:
        """Write what the prompt does not hold as it is written."""
        text = codecs.decode(_prompt(ask).partition(" ")[2], "rot13")
        if verb == "either":
            text = text.split("|")["~" in ask.id]
        pieces = re.findall(r"\s?\S{1,4}|\s", text)[: ask.max_tokens]
        self._say(ask.id, Begun(id=ask.id, prompt_tokens=prompt, marked=False))
        steps: list[object] = []
        for one in pieces:
            shown = () if ask.top_logprobs is None else (TokenLogprob(one, tuple(one.encode()), -0.5),)
            said, thought = ("", one) if verb == "think" else (one, "")
            steps.append(Piece(id=ask.id, text=said, tokens=1, logprobs=shown, reasoning=thought))
        if verb == "think":
            steps.append(Piece(id=ask.id, text="answer", tokens=1))
        totals = (prompt, len(steps), False)
        self._step(ask, iter([*steps, None]), verb="slow" if verb == "drip" else verb, totals=totals)

    def _embed(self, ask: Embed) -> None:
        tokens = sum(len(text.split()) for text in ask.texts)
        if ask.texts[0].startswith("fail"):
            self._last(ask.id, Failed(id=ask.id, code=ask.texts[0].split()[1], message="as told"))
        elif tokens > ask.budget:
            self._last(ask.id, Failed(id=ask.id, code="prompt_too_long", message="no room"))
        elif ask.texts[0] != "hang":
            numbers = [[zlib.crc32(f"{at} {text}".encode()) / 2**31 - 1 for at in range(64)] for text in ask.texts]
            raw = b"".join(struct.pack("<64f", *one) for one in numbers)
            self._last(ask.id, Embedded(id=ask.id, width=64, vectors=raw, prompt_tokens=tokens))

    def _write(self, ask: Ask, verb: str, *, prompt: int, many: int) -> None:
        room = many if verb == "wild" else min(many, ask.max_tokens, ask.budget - prompt)
        self._say(ask.id, Begun(id=ask.id, prompt_tokens=prompt, marked=False))
        logprobs = () if ask.top_logprobs is None else (_logprob(ask.top_logprobs),)
        pieces = (Piece(id=ask.id, text=f"w{at} ", tokens=1, logprobs=logprobs) for at in range(room))
        if verb == "die":
            steps: Iterator[object] = itertools.chain(pieces, [Failed(id=ask.id, code="failed", message="as told")])
        else:
            steps = itertools.chain(pieces, [None])
        self._step(ask, steps, verb=verb, totals=(prompt, room, room < many))

    def _step(self, ask: Ask, steps: Iterator[object], *, verb: str, totals: tuple[int, int, bool]) -> None:
        while ask.id in self.open:
            step = next(steps)
            if isinstance(step, Failed):
                self._last(ask.id, step)
            elif step is None:
                self._end(ask, totals[0], totals[1], finish="length" if totals[2] else "stop")
            else:
                self._say(ask.id, step)
            if verb == "slow":
                self.loop.call_later(0.02, lambda: self._step(ask, steps, verb=verb, totals=totals))
                return

    def _end(self, ask: Ask, prompt: int, completion: int, *, finish: str) -> None:
        self._last(
            ask.id,
            Ended(id=ask.id, finish=finish, prompt_tokens=prompt, completion_tokens=completion, marked_tokens=0),  # type: ignore[arg-type]
        )

    def _say(self, request: str, answer: object) -> None:
        if request in self.open:
            self.open[request].on_answer(answer)  # type: ignore[arg-type]

    def _last(self, request: str, answer: object) -> None:
        sink = self.open.pop(request, None)
        if sink is not None:
            sink.on_answer(answer)  # type: ignore[arg-type]


def _logprob(top: int) -> TokenLogprob:
    # two more than were asked for, as careless servers do
    likeliest = tuple((f"t{at}", (116, 48 + at), -float(at) - 0.123456789) for at in range(top + 2))
    return TokenLogprob("w", (119,), float("-inf"), likeliest)
