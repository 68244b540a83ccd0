"""The second half of the tour: the sealed model is served, every customer's text carries its own mark, limits bite."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from strongroom.cli.report_page import Answer
from strongroom.cli.tour import Document, Tour, Unexpected, granted, pick

CUSTOMERS: Final = ("acme", "zenith")
_SMALL: Final = "tiny"  # an account with a small budget
_BUDGET: Final = 120  # tokens a day
_ASKED: Final = 400
_TOKENS: Final = 260
_PROMPTS: Final = {
    "acme": "Write a long story about a night watchman in a bank. Describe everything that he sees.",
    "zenith": "Write a long letter from a sailor to his sister about a storm at sea. Describe everything.",
}
_TERMS: Final = "Terms of the tour, version 1.\n\nDo not train models on these answers.\n"
# The opening of Herman Melville's Moby-Dick (1851), in the public domain: nobody's account wrote it.
_HUMAN: Final = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of"
    " the world. It is a way I have of driving off the spleen and regulating the circulation. Whenever I find "
    "myself growing grim about the mouth; whenever it is a damp, drizzly November in my soul; whenever I find "
    "myself involuntarily pausing before coffin warehouses, and bringing up the rear of every funeral I meet; and"
    " especially whenever my hypos get such an upper hand of me, that it requires a strong moral principle to "
    "prevent me from deliberately stepping into the street, and methodically knocking people's hats off, then, I "
    "account it high time to get to sea as soon as I can. This is my substitute for pistol and ball. With a "
    "philosophical flourish Cato throws himself upon his sword; I quietly take to the ship. There is nothing "
    "surprising in this. If they but knew it, almost all men in their degree, some time or other, cherish very "
    "nearly the same feelings towards the ocean with me.\n"
)


class Served:
    """The model behind its gateway, and the acts that try it."""

    def __init__(self, tour: Tour, model: str) -> None:
        """Serve `model` of the tour's home."""
        self.answers: list[Answer] = []
        self._tour = tour
        self._model = model
        self._up: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._keys: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def acts(self) -> list[Callable[[], None]]:
        """Return the acts."""
        return [self.customers, self.start, self.terms, self.chat, self.recognise, self.limits, self.stop]

    def close(self) -> None:
        """Leave nothing running, whatever happened."""
        if self._up is not None and self._up.poll() is None:
            self._up.kill()
            self._up.wait()

    def customers(self) -> None:
        """Accounts and keys."""
        tour = self._tour

        def make() -> str:
            for name in CUSTOMERS:
                granted(tour.call("serving", "account", "add", name, who="carla"))
            granted(tour.call("serving", "account", "add", _SMALL, "--tokens-per-day", str(_BUDGET), who="carla"))
            for name in (*CUSTOMERS, _SMALL):
                made = granted(tour.call("serving", "key", "add", name, who="carla"))
                self._keys[name], self._ids[name] = pick(made, "api_key"), pick(made, "id")
            return f"{', '.join(CUSTOMERS)}, and {_SMALL} with {_BUDGET} tokens a day; their keys are kept as hashes"

        tour.step("Carla makes three customers", "serving account add, key add", make)

    def start(self) -> None:
        """The whole service, from one command."""

        def begin() -> str:
            self._up, document = _start(self._tour, self._model)
            self._url = pick(document, "url")
            marked = "every account's text carries its own mark" if document.get("marked") else "unmarked"
            return f"{pick(document, 'url')}: control, engine, worker, gateway; {marked}"

        self._tour.step("The sealed model is served", "up: four processes on this machine", begin)

    def terms(self) -> None:
        """Terms bind the key."""
        tour = self._tour

        def unaccepted() -> str:
            file = tour.work / "terms.txt"
            file.write_text(_TERMS, encoding="utf-8")
            granted(tour.call("serving", "terms", "publish", str(file), who="carla"))
            return _expect(self._ask("acme", "Hello"), 403, "terms_not_accepted")

        def accept() -> str:
            done = [granted(tour.call("serving", "terms", "accept", "--key-file", str(file))) for file in self._files()]
            version, digest = pick(done, 0, "version"), pick(done, 0, "digest")
            return f"version {version} ({digest[:16]}…), {len(done)} acceptances in the ledger"

        tour.step("A key that accepted no terms", "publish terms, then ask at once", unaccepted, refusal=True)
        tour.step("All three accept", "terms accept", accept)

    def chat(self) -> None:
        """Two customers ask at the same time."""

        def asks(name: str) -> Document:
            return self._ask(name, _PROMPTS[name], _TOKENS)

        def both() -> str:
            with ThreadPoolExecutor(len(CUSTOMERS)) as pool:
                came = list(pool.map(asks, CUSTOMERS))
            for name, one in zip(CUSTOMERS, came, strict=True):
                text = pick(one, "text")
                if not text:
                    raise Unexpected(f"{name} got {json.dumps(one)[:200]}")
                (self._tour.work / f"{name}.txt").write_text(text, encoding="utf-8")
            return ", ".join(f"{name}: {pick(one, 'tokens')} tokens" for name, one in zip(CUSTOMERS, came, strict=True))

        self._tour.step("Two customers chat", "the official openai client, streaming, both at once", both)

    def recognise(self) -> None:
        """Whose text is whose."""
        tour = self._tour

        def whose(name: str) -> str:
            found = self._detect(tour.work / f"{name}.txt")
            if (pick(found, "verdict"), pick(found, "account")) != ("match", name):
                raise Unexpected(f"{name}'s text: {json.dumps(found)[:300]}")
            text = (tour.work / f"{name}.txt").read_text(encoding="utf-8")
            self.answers.append(Answer(who=name, prompt=_PROMPTS[name], text=text, found=_told(found)))
            return _told(found)

        def human() -> str:
            file = tour.work / "human.txt"
            file.write_text(_HUMAN, encoding="utf-8")
            found = self._detect(file)
            if pick(found, "verdict") == "match":  # one in a hundred is a doubt, by design: nobody is named even so
                raise Unexpected(f"a human text: {json.dumps(found)[:300]}")
            return _told(found)

        for name in CUSTOMERS:
            find = functools.partial(whose, name)
            tour.step(f"Ada finds {name}'s text", "watermark detect, over every account", find)
        tour.step("A page of Moby-Dick is nobody's", "watermark detect", human)

    def limits(self) -> None:
        """A budget that ends in mid-stream, a field that discloses too much, a key that is revoked."""
        tour = self._tour

        def cut() -> str:
            came = self._ask(_SMALL, _PROMPTS["acme"], _ASKED)
            tokens = int(pick(came, "tokens"))
            if pick(came, "finish") != "length" or not 0 < tokens < _BUDGET:
                raise Unexpected(f"the stream was not cut: {json.dumps(came)[:200]}")
            again = _expect(self._ask(_SMALL, "Go on."), 429, "tokens_per_day_exceeded")
            return f"asked for {_ASKED} tokens, cut after {tokens} with finish_reason length; then {again}"

        def field() -> str:
            biased: Document = {"logit_bias": {"42": 100}, "logprobs": True}
            return _expect(self._ask("acme", "Hello", 4, extra=biased), 403, "not_in_tier")

        def revoked() -> str:
            granted(tour.call("serving", "key", "revoke", self._ids["zenith"], who="carla"))
            return _expect(self._ask("zenith", "Hello"), 401, "invalid_api_key")

        tour.step("A day's budget ends in mid-stream", f"{_ASKED} tokens asked of {_BUDGET}", cut)
        tour.step("A bias that would disclose logits", "logit_bias beside logprobs", field, refusal=True)
        tour.step("A revoked key", "revoke, then ask at once", revoked, refusal=True)

    def stop(self) -> None:
        """One signal ends it all."""

        def end() -> str:
            if self._up is None:
                raise Unexpected("nothing was started")
            self._up.send_signal(signal.SIGTERM)
            status = self._up.wait(60)
            if status:
                raise Unexpected(f"it ended with status {status}")
            told = json.dumps(granted(self._tour.call("ledger", "tail", "-n", "100")))
            if not (summaries := told.count('"serving.usage"')):
                raise Unexpected("no usage in the ledger")
            return f"all four ended; {summaries} usage summaries in the ledger, without a word of what was said"

        self._tour.step("One signal stops it", "SIGTERM", end)

    def _files(self) -> list[Path]:
        """Return a file with each customer's key, for the owner's eyes."""
        folder = self._tour.work / "passphrases"
        for name, key in self._keys.items():
            (folder / f"{name}.key").write_text(key + "\n", encoding="utf-8")
        return [folder / f"{name}.key" for name in self._keys]

    def _ask(self, name: str, prompt: str, tokens: int = 8, *, extra: Document | None = None) -> Document:
        """Send a chat as the customer `name`."""
        ask = {"base_url": self._url, "api_key": self._keys[name], "model": self._model}
        ask |= {"prompt": prompt, "max_tokens": tokens, "extra": extra or {}}
        command = [sys.executable, "-m", "strongroom.cli.tour_client"]
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=json.dumps(ask).encode(), stdout=subprocess.PIPE, check=False
        )
        came: Document = json.loads(done.stdout or b"{}")
        return came

    def _detect(self, file: Path) -> Document:
        return granted(self._tour.call("watermark", "detect", str(file), "--tokenizer", self._model, who="ada"))


def _start(tour: Tour, model: str) -> tuple[subprocess.Popen[bytes], Document]:
    """Start `strongroom up`; return it with what it said when it was ready.

    Raises:
        Unexpected: it ended before.

    """
    words = ["up", "--model", model, "--port", "0"]
    command = tour.command(*words, who="carla")
    tour.screen.print(f"  $ strongroom {' '.join(words)} --as carla", style="cyan", markup=False)
    process = subprocess.Popen(command, env=tour.environment(), stdout=subprocess.PIPE)  # noqa: S603 - our own program
    said = b""
    while process.stdout is not None and (line := process.stdout.readline()):
        said += line
        if line.rstrip() == b"}":
            break
    document: Document = json.loads(said or b"{}")
    if "url" not in document:
        process.kill()
        process.wait()
        raise Unexpected(f"it did not come up: {json.dumps(document)[:300]}")
    return process, document


def _expect(came: Document, status: int, code: str) -> str:
    """Return what was refused, if it was so refused.

    Raises:
        Unexpected: it was not.

    """
    if (came.get("status"), came.get("code")) != (status, code):
        raise Unexpected(f"expected {status} {code}, got {json.dumps(came)[:200]}")
    return f"{status} {code}"


def _told(found: Document) -> str:
    whose = f" {pick(found, 'account')}" if found.get("account") else ""
    return (
        f"{pick(found, 'verdict')}{whose}: p = {float(pick(found, 'p_value')):.2g} "
        f"over {pick(found, 'candidates')} keys, {pick(found, 'scored')} tokens scored"
    )
