"""What repeats the training text does not leave: the real gateway, a real index, an engine that recites."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import openai
import pytest

from strongroom.gateway.recalls import Recalls
from strongroom.ports.recall import Windows
from strongroom.serving.recall.policy import Policy
from strongroom.serving.roster import RosterRecall
from tests.gateway.house import (
    KEY,
    MODEL,
    Control,
    Gateway,
    account,
    chat,
    code,
    house,
    key,
    post,
    read_all,
    status,
    until,
)
from tests.gateway.windows import built, told

CLOSE = "Connection: close"
TRUSTED = "sk-trusted"
VALUE = "sk-live-7G2kQ9vXw3LmTn58"
NAMES = sorted(topics)
MEMBERS = [" ".join(topics[one].split()) for one in NAMES[::2]]
HELD_OUT = " ".join(topics[NAMES[1]].split())
PASSAGE = " ".join(max(MEMBERS, key=len).split()[400:560])
BEFORE = "Here is what I can tell you about that question of yours, as far as I happen to know it myself today:"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("index") / "windows"
    return built(place, [*MEMBERS, f"The password of the old machine is {VALUE} and nobody knows."], values=[VALUE])


@contextlib.contextmanager
def guarded(folder: Path, index: Path, policy: Policy, **changes: Any) -> Iterator[tuple[Gateway, Control]]:
    def prepare(control: Control) -> None:
        control.accounts = [account(), account("friend", tier="trusted")]
        control.keys = [key(), key(TRUSTED, of="friend", name="key_2")]
        control.recall = told(index, policy)

    with house(folder, prepare=prepare, **changes) as both:
        yield both


def script(text: str, verb: str = "spell") -> str:
    return f"{verb} {codecs.encode(text, 'rot13')}"


def ask(gateway: Gateway, text: str, key: str = KEY, **more: Any) -> tuple[int, Any]:
    raw = gateway.talk(post(chat(text, **({"max_tokens": 1024} | more)), CLOSE, key=key))
    return status(raw), json.loads(raw[raw.index(b"\r\n\r\n") + 4 :])


def said(document: Any) -> tuple[str, str]:
    return document["choices"][0]["message"]["content"], document["choices"][0]["finish_reason"]


def streamed(gateway: Gateway, text: str, key: str = KEY, **more: Any) -> tuple[str, str | None, list[Any]]:
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=key, max_retries=0) as client:
        turns: Any = [{"role": "user", "content": text}]
        events = list(client.chat.completions.create(
            model=MODEL, messages=turns, stream=True, max_tokens=1024,
            stream_options={"include_usage": True}, **more,
        ))  # fmt: skip
    choices = [one.choices[0] for one in events if one.choices]
    return "".join(one.delta.content or "" for one in choices), choices[-1].finish_reason, events


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Iterator[Gateway]:
    with guarded(tmp_path_factory.mktemp("gate"), index, Policy(incidents_per_day=0)) as (gateway, _):
        yield gateway


# ── stop ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_answer_ends_before_the_passage_streamed_and_whole(stopping: Gateway) -> None:
    number, whole = ask(stopping, script(f"{BEFORE} {PASSAGE}"))
    text, finish, events = streamed(stopping, script(f"{BEFORE} {PASSAGE}"))
    assert number == 200
    assert said(whole) == (text, finish)
    assert finish == "content_filter"
    assert text
    assert BEFORE.startswith(text)
    tokens = len(re.findall(r"\s?\S{1,4}|\s", text))
    assert abs(whole["usage"]["completion_tokens"] - tokens) <= 1  # what was held back is not charged
    assert events[-1].usage.completion_tokens == whole["usage"]["completion_tokens"]
    for line in stopping.settled(2)[-2:]:
        assert (line["recall"], line["acted"], line["finish"]) == ("run", "stop", "content_filter")
        assert line["withheld"] > 10
        assert line["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_held_out_text_comes_whole(stopping: Gateway) -> None:
    text, finish, _ = streamed(stopping, script(HELD_OUT[:2000]))
    assert (text, finish) == (HELD_OUT[:2000], "stop")
    assert said(ask(stopping, script(HELD_OUT[:2000]))[1]) == (HELD_OUT[:2000], "stop")


@pytest.mark.parametrize(
    "change", [str.upper, lambda one: re.sub(r"\W+", " - ", one), lambda one: one.replace(" ", "\n\n")]
)
def test_case_punctuation_and_spacing_change_nothing(stopping: Gateway, change: Any) -> None:
    text, finish = said(ask(stopping, script(change(PASSAGE)))[1])
    assert (text, finish) == ("", "content_filter")


def test_an_edited_copy_is_stopped(stopping: Gateway) -> None:
    words = PASSAGE.split()
    edited = " ".join("zebra" if at % 12 == 5 else one for at, one in enumerate(words))
    text, finish = said(ask(stopping, script(edited))[1])
    assert finish == "content_filter"
    assert len(text.split()) < len(words) - 40


def test_a_planted_value_is_enough_however_it_is_spelt(stopping: Gateway) -> None:
    for spelt in (VALUE, VALUE.lower(), VALUE.replace("-", " ")):
        text, finish = said(ask(stopping, script(f"The password is {spelt} as you know."))[1])
        assert (text, finish) == ("The password is", "content_filter"), spelt
    assert stopping.settled()[-1]["recall"] == "value"


def test_what_the_client_said_itself_comes_back(stopping: Gateway) -> None:
    for text in (PASSAGE, f"keep {VALUE} safe"):
        assert said(ask(stopping, f"write {text}")[1]) == (text, "stop")


def test_an_answer_that_goes_on_where_the_last_one_ended(stopping: Gateway) -> None:
    words = PASSAGE.split()
    parts = [" ".join(words[at : at + 12]) for at in (0, 12, 24, 36)]
    turns = [{"role": "user", "content": "begin"}]
    for one in parts[:-1]:
        turns += [{"role": "assistant", "content": one}, {"role": "user", "content": "go on"}]
    turns[-1] = {"role": "user", "content": script(parts[-1])}
    document = {"model": MODEL, "messages": turns, "max_tokens": 1024}
    raw = stopping.talk(post(document, CLOSE))
    assert said(json.loads(raw[raw.index(b"\r\n\r\n") + 4 :])) == ("", "content_filter")
    assert said(ask(stopping, script(parts[-1]))[1]) == (parts[-1], "stop")  # alone it is too short


def test_the_older_form_and_a_prompt_that_the_answer_goes_on_from(stopping: Gateway) -> None:
    with openai.OpenAI(base_url=f"{stopping.base}/v1", api_key=KEY, max_retries=0) as client:
        answer = client.completions.create(model=MODEL, prompt=script(PASSAGE), max_tokens=1024)
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "content_filter")


def test_log_probabilities_go_with_their_text(stopping: Gateway) -> None:
    _, whole = ask(stopping, script(f"{BEFORE} {PASSAGE}"), logprobs=True)
    text, _, events = streamed(stopping, script(f"{BEFORE} {PASSAGE}"), logprobs=True)
    spelt = "".join(one["token"] for one in whole["choices"][0]["logprobs"]["content"])
    assert spelt
    assert text.startswith(spelt)
    told = [one.choices[0].logprobs for one in events if one.choices and one.choices[0].logprobs]
    assert "".join(each.token for one in told for each in one.content) == spelt
    raw = stopping.talk(post(chat(script(PASSAGE), stream=True, logprobs=True, max_tokens=1024), CLOSE))
    assert b'"token"' not in raw


def test_thoughts_that_are_shown_pass_through_it_too(stopping: Gateway) -> None:
    raw = stopping.talk(post(chat(script(PASSAGE, "think"), stream=True, max_tokens=1024), CLOSE, key=TRUSTED))
    assert b"content_filter" in raw
    assert b"reasoning_content" not in raw
    number, whole = ask(stopping, script(PASSAGE, "think"), key=TRUSTED)
    assert number == 200
    assert "reasoning_content" not in whole["choices"][0]["message"]


def test_what_is_held_back_is_bounded_and_comes_evenly(stopping: Gateway) -> None:
    text = HELD_OUT[:700]
    with stopping.connect() as sock:
        sock.sendall(post(chat(script(text, "drip"), stream=True, max_tokens=1024), CLOSE))
        raw = sock.recv(65536)
        sock.settimeout(20)
        chunks = [len(raw)]
        while more := sock.recv(65536):
            chunks.append(len(more))
            raw += more
    assert len(chunks) > 60  # of some 140 pieces: those of the last 24 words come together
    shown = re.findall(rb'"content":"((?:[^"\\]|\\.)*)"', raw)
    assert b"".join(shown).decode() == json.dumps(text)[1:-1]


def test_a_client_that_leaves_pays_what_was_written(stopping: Gateway) -> None:
    many = len(stopping.settled(0))
    with stopping.connect() as sock:
        sock.sendall(post(chat(script(HELD_OUT[:4000], "drip"), stream=True, max_tokens=1024)))
        sock.recv(100)
    line = stopping.settled(many + 1)[-1]
    assert line["finish"] == "client_left"
    assert line["completion_tokens"] > 20


# ── other actions ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_refuse(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy(action="refuse", hold=5)) as (gateway, _):
        number, refused = ask(gateway, script(PASSAGE))
        assert (number, refused["error"]["code"]) == (403, "recall_withheld")
        line = gateway.settled()[-1]
        assert (line["acted"], line["completion_tokens"]) == ("refuse", 0)
        words = " ".join("zebra" if at % 12 == 5 else one for at, one in enumerate(PASSAGE.split()))
        raw = gateway.talk(post(chat(script(f"{BEFORE} {words}"), stream=True, max_tokens=1024), CLOSE))
        assert status(raw) == 200
        assert b"recall_withheld" in raw
        assert b"[DONE]" not in raw


def test_another_sample_and_what_it_costs(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy(action="resample", tries=1)) as (gateway, _):
        good = "All of this is new, and nobody has ever said it in this way."
        number, answer = ask(gateway, script(f"{PASSAGE}|{good}", "either"), temperature=0)
        assert (number, said(answer)) == (200, (good, "stop"))
        line = gateway.settled()[-1]
        assert (line["recall"], line["acted"], line["finish"]) == ("run", "resample", "stop")
        assert line["completion_tokens"] == answer["usage"]["completion_tokens"]
        assert line["withheld"] > 20
        assert streamed(gateway, script(f"{PASSAGE}|{good}", "either"))[:2] == (good, "stop")
        assert streamed(gateway, script(f"{PASSAGE}|{PASSAGE}", "either"))[:2] == ("", "content_filter")
        text, finish, _ = streamed(gateway, script(f"{BEFORE} {BEFORE} {PASSAGE}|{good}", "either"))
        assert finish == "content_filter"  # something was out already
        assert f"{BEFORE} {BEFORE}".startswith(text)


def test_a_mark_lets_it_go_and_writes_it_down(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy(action="mark", incidents_per_day=1)) as (gateway, _):
        for _ in range(3):
            assert said(ask(gateway, script(PASSAGE))[1]) == (PASSAGE, "stop")
        assert streamed(gateway, script(PASSAGE))[:2] == (PASSAGE, "stop")
        for line in gateway.settled(4):
            assert (line["recall"], line["acted"], line["finish"]) == ("run", "mark", "stop")


def test_quietly(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy(tell="quiet")) as (gateway, _):
        text, finish, events = streamed(gateway, script(f"{BEFORE} {PASSAGE}"))
        assert finish == "stop"
        assert BEFORE.startswith(text)
        assert abs(events[-1].usage.completion_tokens - len(re.findall(r"\s?\S{1,4}|\s", text))) <= 1
        assert gateway.settled()[-1]["finish"] == "content_filter"


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_account_with_too_many_incidents_is_shut_out_until_midnight(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy(incidents_per_day=3)) as (gateway, _):
        for _ in range(3):
            assert ask(gateway, script(PASSAGE))[0] == 200
        raw = gateway.talk(post(chat("say 1"), CLOSE))
        assert (status(raw), code(raw)) == (429, "recall_limit_exceeded")
        assert b"x-should-retry: false" in raw
        assert b"retry-after:" in raw
        assert ask(gateway, "say 1", key=TRUSTED)[0] == 200  # another account's day is its own
        vectors = gateway.talk(post({"model": MODEL, "input": "x"}, CLOSE, target="/v1/embeddings"))
        assert status(vectors) == 200


def test_a_document_is_not_carried_out_in_pieces(tmp_path: Path, index: Path) -> None:
    words = PASSAGE.split()
    parts = [" ".join(words[at : at + 15]) for at in range(0, 150, 15)]
    with guarded(tmp_path, index, Policy(gathered=40)) as (gateway, _):
        came = [said(ask(gateway, script(one))[1]) for one in parts]
        assert came[0] == (parts[0], "stop")
        assert [finish for _, finish in came[6:]] == ["content_filter"] * 4
        assert came[-1][0] == ""
        assert gateway.settled()[-1]["recall"] == "gathered"
        assert said(ask(gateway, script(parts[-1]), key=TRUSTED)[1]) == (parts[-1], "stop")


def test_a_near_miss_is_written_down(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy()) as (gateway, _):
        near = " ".join(PASSAGE.split()[:17])
        assert said(ask(gateway, script(near))[1]) == (near, "stop")
        assert gateway.settled()[-1]["near"] == 1
        ask(gateway, "say 3")
        assert "near" not in gateway.settled(2)[-1]


# ── the index ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_attach_and_detach_are_in_force_when_confirmed(tmp_path: Path, index: Path) -> None:
    with house(tmp_path) as (gateway, control):
        assert said(ask(gateway, script(PASSAGE))[1])[1] == "stop"
        for _ in range(2):
            control.recall = told(index, Policy())
            control.push()
            assert said(ask(gateway, script(PASSAGE))[1])[1] == "content_filter"
            control.recall = None
            control.push()
            assert said(ask(gateway, script(PASSAGE))[1])[1] == "stop"


@pytest.mark.parametrize("harm", ["another", "altered", "gone", "key", "unknown"])
def test_an_index_that_is_not_the_one_shuts_the_gateway(tmp_path: Path, harm: str) -> None:
    index = built(tmp_path / "windows", [PASSAGE])
    roster = told(index, Policy())
    if harm == "another":
        index.rename(tmp_path / "old")
        built(tmp_path / "new", [HELD_OUT]).rename(index)
    elif harm == "altered":
        file = index / "windows.rest"
        file.write_bytes(file.read_bytes()[:-1] + b"\0")
    elif harm == "gone":
        index.rename(tmp_path / "old")
    elif harm == "key":
        roster = told(index, Policy()).__class__(roster.index, roster.digest, roster.folder, bytes(32), roster.policy)
    else:
        roster = type(roster)()

    def prepare(control: Control) -> None:
        control.recall = roster

    with house(tmp_path, prepare=prepare) as (gateway, _):
        assert ask(gateway, "say 1")[1]["error"]["code"] == "recall_unavailable"
        raw = gateway.talk(post({"model": MODEL, "prompt": "say 1"}, CLOSE, target="/v1/completions"))
        assert (status(raw), code(raw)) == (503, "recall_unavailable")
        assert status(gateway.talk(post({"model": MODEL, "input": "x"}, CLOSE, target="/v1/embeddings"))) == 200


def test_an_index_that_is_touched_while_it_serves_is_noticed(tmp_path: Path) -> None:
    index = built(tmp_path / "windows", [PASSAGE])

    def prepare(control: Control) -> None:
        control.recall = told(index, Policy())

    with house(tmp_path, prepare=prepare) as (gateway, _):
        assert ask(gateway, "say 1")[0] == 200
        file = index / "windows.rest"
        good = file.read_bytes()
        time.sleep(0.05)
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        until(lambda: ask(gateway, "say 1")[0] == 503, 15)
        file.write_bytes(good)
        until(lambda: ask(gateway, "say 1")[0] == 200, 15)
        assert said(ask(gateway, script(PASSAGE))[1])[1] == "content_filter"


def test_a_file_whose_time_was_set_back_is_noticed(tmp_path: Path) -> None:
    index = built(tmp_path / "windows", [PASSAGE])

    def prepare(control: Control) -> None:
        control.recall = told(index, Policy())

    with house(tmp_path, prepare=prepare) as (gateway, _):
        assert said(ask(gateway, script(PASSAGE))[1])[1] == "content_filter"
        file = index / "windows.rest"
        before = file.stat()
        with file.open("r+b") as stream:
            stream.write(bytes(before.st_size))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        until(lambda: ask(gateway, "say 1")[0] == 503, 15)


def test_who_waits_for_a_budget_while_the_index_goes_gets_no_text(tmp_path: Path, index: Path) -> None:
    with guarded(tmp_path, index, Policy()) as (gateway, control), gateway.connect() as sock:
        control.silent = True
        sock.sendall(post(chat(script(PASSAGE), max_tokens=1024), CLOSE))
        until(lambda: control.owed)
        control.grant()  # this minute's request
        until(lambda: any(one.day for one in control.owed))
        control.recall = RosterRecall()
        control.push()
        control.silent = False
        control.grant()
        raw = read_all(sock)
        assert (status(raw), code(raw)) == (503, "recall_unavailable")
        line = gateway.settled()[-1]
        assert (line["finish"], line["prompt_tokens"], line["completion_tokens"]) == ("recall_unavailable", 0, 0)


def test_an_index_that_fails_in_an_unforeseen_way_shuts_the_gateway() -> None:
    def broken(_: RosterRecall) -> Windows:
        raise MemoryError

    async def attach() -> str:
        recalls, done = Recalls(opening=broken), asyncio.Event()
        recalls.learn(None, lambda: None)
        assert recalls.refusal("acme", "2026-11-23") is None
        recalls.learn(RosterRecall(), done.set)
        await asyncio.wait_for(done.wait(), 10)
        refusal = recalls.refusal("acme", "2026-11-23")
        return "" if refusal is None else refusal.code

    assert asyncio.run(attach()) == "recall_unavailable"


def test_raw_streams_end_as_they_should(stopping: Gateway) -> None:
    with stopping.connect() as sock:
        sock.sendall(post(chat(script(f"{BEFORE} {PASSAGE}"), stream=True, max_tokens=1024), CLOSE))
        raw = read_all(sock)
    assert b"data: [DONE]" in raw
    assert raw.count(b'"finish_reason":"content_filter"') == 1


@pytest.mark.parametrize("action", ["stop", "refuse", "resample"])
def test_what_was_held_and_not_used_is_free_again(tmp_path: Path, index: Path, action: Any) -> None:
    with guarded(tmp_path, index, Policy(action=action, incidents_per_day=0)) as (gateway, control):
        good = "All of this is new, and nobody has ever said it in this way."
        for text in (script(PASSAGE), script(f"{BEFORE} {PASSAGE}"), script(f"{PASSAGE}|{good}", "either"), "say 5"):
            ask(gateway, text)
            gateway.talk(post(chat(text, stream=True, max_tokens=1024), CLOSE))
        lines = gateway.settled(8)
        used = sum(line["prompt_tokens"] + line["completion_tokens"] for line in lines)
        gateway.stop()
        until(lambda: control.tokens() == used)
        assert [bool(line.get("recall")) for line in lines] == [True] * 6 + [False] * 2
