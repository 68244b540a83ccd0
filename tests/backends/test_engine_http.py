"""The HTTP engine's client against servers that misbehave: whatever they send, the asker gets one plain failure."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from strongroom.backends.engine_http import HttpCompletions, Patience
from strongroom.core.errors import BadSettings
from strongroom.core.secrets import Secret
from strongroom.ports.completions import TokenLogprob, Turn
from tests.ports.asking import Asker, answer, ask, begin, embed, until_ready

QUICK = Patience(connect=2, first_byte=0.3, idle=0.3, probe=0.02)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def head(*lines: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *lines, "", ""]).encode()


def whole(document: object, status: str = "200 OK") -> bytes:
    raw = json.dumps(document).encode()
    return head(f"Content-Length: {len(raw)}", status=status) + raw


def event(document: object) -> bytes:
    return b"data: " + (document if isinstance(document, bytes) else json.dumps(document).encode()) + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def events(*documents: object, end: bool = True) -> bytes:
    start = head("Transfer-Encoding: chunked", kind="text/event-stream")
    return start + b"".join(chunk(event(one)) for one in documents) + (chunk(b"") if end else b"")


def word(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"text": text, "index": 0, "finish_reason": finish}]}


ANSWER: dict[str, Any] = {
    "choices": [{"text": "hi", "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1},
}
DONE = b"[DONE]"
BAD = {"token": "a", "logprob": 0, "bytes": [256]}
CHUNKED = "Transfer-Encoding: chunked"


class Upstream:
    """A server that answers each request with the next of `answers`, byte for byte; it keeps what it was sent."""

    def __init__(self, *answers: bytes | None, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.requests: list[tuple[bytes, Any]] = []
        self.connections = 0
        self.lost = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                top = await reader.readuntil(b"\r\n\r\n")
                if top.startswith(b"GET"):
                    writer.write(whole({"data": []}))
                    continue
                size = int(top.lower().split(b"content-length:")[1].split()[0])
                self.requests.append((top, json.loads(await reader.readexactly(size))))
                said = self.answers.pop(0)
                if said is None:
                    break
                writer.write(said)
                await writer.drain()
                if self.close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost.set()
        finally:
            writer.close()


def against(upstream: Upstream, test: Callable[[HttpCompletions], Awaitable[None]], **options: Any) -> None:
    async def go() -> None:
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpCompletions(f"http://127.0.0.1:{port}", patience=QUICK, **options)
        try:
            await test(client)
        finally:
            client.close()
            server.close()
            await asyncio.sleep(0.02)

    asyncio.run(go())


HOSTILE = {
    "garbage": (b"\x00\x01garbage\r\n\r\n" * 20, "unavailable"),
    "nothing": (b"", "unavailable"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Type: applic", "unavailable"),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000, "unavailable"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000, "unavailable"),
    "half a body": (whole(ANSWER)[:-9], "unavailable"),
    "no number for a length": (head("Content-Length: x") + b"{}", "unavailable"),
    "two lengths": (head("Content-Length: 3", "Content-Length: 5") + b"{}   ", "unavailable"),
    "length and chunks": (head("Content-Length: 3", "Transfer-Encoding: chunked") + chunk(b"{}"), "unavailable"),
    "too short a length": (head("Content-Length: 5") + json.dumps(ANSWER).encode(), "failed"),
    "too long a length": (head("Content-Length: 5000") + json.dumps(ANSWER).encode(), "unavailable"),
    "a bad chunk size": (head("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n", "unavailable"),
    "no JSON": (head("Content-Length: 5") + b"<html", "failed"),
    "another JSON": (whole([1, 2]), "failed"),
    "deep JSON": (head("Content-Length: 100000") + b"[" * 100_000, "failed"),
    "no choice": (whole({"choices": []}), "failed"),
    "no finish": (whole(word("hi")), "failed"),
    "types that don't fit": (whole({"choices": [{"text": 5, "finish_reason": "stop"}]}), "failed"),
    "an upgrade": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "unavailable"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "unavailable"),
    "an empty OK": (head("Content-Length: 0"), "failed"),
    "an error with an OK": (whole({"error": {"message": "secret prompt"}}), "failed"),
    "bad bytes of a token": (whole({"choices": [ANSWER["choices"][0] | {"logprobs": {"content": [BAD]}}]}), "failed"),
    "a stream cut before its end": (events(word("a"), end=False), "unavailable"),
    "a stream without finish": (events(word("a"), DONE), "unavailable"),
    "a stream that just ends": (events(word("a")), "unavailable"),
    "a stream of no JSON": (events(word("a"), b"{oops"), "failed"),
    "an error within a stream": (events(word("a"), {"error": {"message": "secret prompt", "code": 500}}), "failed"),
    "an endless line": (head(CHUNKED, kind="text/event-stream") + chunk(b"data: " + b"x" * (2 << 20)), "failed"),
    "more chunks than tokens": (events(*[word("a")] * 500), "failed"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said, code = HOSTILE[name]

    async def check(client: HttpCompletions) -> None:
        asker = await answer(client, ask(1, max_tokens=20, streamed="stream" in name or "line" in name, top_logprobs=1))
        assert asker.code == code
        assert "secret" not in repr(asker.heard)
        assert (await answer(client, ask(2, streamed=False))).text == "hi"

    upstream = Upstream(said, whole(ANSWER), close=True)
    against(upstream, check)
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        ("400 Bad Request", {"error": {"message": "secret"}}, "bad_prompt"),
        ("400 Bad Request", {"error": {"type": "exceed_context_size_error"}}, "prompt_too_long"),
        ("400 Bad Request", {"error": {"code": "context_length_exceeded"}}, "prompt_too_long"),
        ("400 Bad Request", "no object", "bad_prompt"),
        ("413 Too Large", {}, "prompt_too_long"),
        ("422 No", {"detail": []}, "bad_prompt"),
        ("429 Slow", {}, "busy"),
        ("401 No", {}, "unavailable"),
        ("500 Oops", {"error": {"message": "secret"}}, "unavailable"),
        ("503 Loading", {}, "unavailable"),
        ("204 Nothing", {}, "unavailable"),
        ("302 Elsewhere", {}, "unavailable"),
    ],
)
def test_an_upstreams_errors_are_ours(status: str, document: object, code: str) -> None:
    async def check(client: HttpCompletions) -> None:
        asker = await answer(client, ask(1))
        assert asker.code == code
        assert "secret" not in repr(asker.heard)

    against(Upstream(whole(document, status), close=True), check)


def test_a_stream_in_any_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}, "timings": {"x": 1}}
    raw = events(word("Hé"), word("llo \U0001f511"), word("", "length"), usage, DONE)

    class Slow(Upstream):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            for byte in raw:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            await reader.read()
            writer.close()

    async def check(client: HttpCompletions) -> None:
        asker = await answer(client, ask(1))
        assert asker.text == "Héllo \U0001f511"
        assert (asker.end.finish, asker.end.prompt_tokens, asker.end.completion_tokens) == ("length", 3, 9)
        assert not asker.begun.marked

    against(Slow(), check)


def test_without_usage_deltas_are_counted() -> None:
    async def check(client: HttpCompletions) -> None:
        end = (await answer(client, ask(1))).end
        assert (end.prompt_tokens, end.completion_tokens, end.finish) == (0, 2, "stop")

    null: dict[str, Any] = {"choices": [{"delta": {"role": "assistant", "content": None}}]}
    against(Upstream(b": a comment\n".join([events(null, word("a"), word("b"), word("", "stop"), DONE)])), check)


@pytest.mark.parametrize("told", [{"prompt_tokens": -1000}, {"completion_tokens": -5}, {"prompt_tokens": 2**40}])
def test_usage_that_would_give_a_budget_back_or_end_it_is_no_answer(told: dict[str, int]) -> None:
    async def check(client: HttpCompletions) -> None:
        assert (await answer(client, ask(1))).code == "failed"
        assert (await answer(client, ask(2, streamed=False))).code == "failed"
        if "prompt_tokens" in told:
            assert (await answer(client, embed("a", "b"))).code == "failed"

    document = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": told}
    last = word("", "stop") | {"usage": told}
    against(Upstream(events(word("a"), last, DONE), whole(document), whole(VECTORS | {"usage": told})), check)


def test_a_server_that_says_that_it_wrote_nothing_is_not_believed() -> None:
    none = {"prompt_tokens": 4, "completion_tokens": 0}
    said: dict[str, Any] = {"message": {"content": "hi"}, "finish_reason": "stop"}
    quiet: dict[str, Any] = {"message": {"content": ""}, "finish_reason": "stop"}

    async def check(client: HttpCompletions) -> None:
        assert (await answer(client, ask(1))).end.completion_tokens == 2
        assert (await answer(client, ask(2, streamed=False))).end.completion_tokens == ask(2).max_tokens
        assert (await answer(client, ask(3, streamed=False))).end.completion_tokens == 0

    streamed = events(word("a"), word("b"), word("", "stop") | {"usage": none}, DONE)
    against(
        Upstream(streamed, whole({"choices": [said], "usage": none}), whole({"choices": [quiet], "usage": none})), check
    )


def test_logprobs_of_the_older_shape() -> None:
    lists = {"tokens": ["a", "é"], "token_logprobs": [None, -0.5], "top_logprobs": [None, {"é": -0.5, "e": -1.0}]}
    document = {"choices": [{"text": "aé", "finish_reason": "stop", "logprobs": lists}]}

    async def check(client: HttpCompletions) -> None:
        (piece,) = (await answer(client, ask(1, streamed=False, top_logprobs=1))).pieces
        assert piece.logprobs == (
            TokenLogprob("a", (97,), 0.0),
            TokenLogprob("é", (195, 169), -0.5, (("é", (195, 169), -0.5),)),
        )

    against(Upstream(whole(document)), check)


def test_what_is_sent() -> None:
    upstream = Upstream(*[whole(ANSWER)] * 3)

    async def check(client: HttpCompletions) -> None:
        turns = (Turn("system", "s"), Turn("user", "u"))
        await answer(client, ask(1, streamed=False, seed=5, stop=("x",), top_p=0.5, top_k=3, budget=4))
        await answer(client, ask(2, turns=turns, top_logprobs=0))
        await answer(client, ask(3, top_logprobs=2, streamed=False))

    against(upstream, check, key=Secret(b"sk-1"), model="theirs")
    assert upstream.connections == 1
    (first, one), (second, two), (_, three) = upstream.requests
    assert first.startswith(b"POST /v1/completions HTTP/1.1\r\n")
    assert b"Authorization: Bearer sk-1\r\n" in first
    assert one == {
        "model": "theirs",
        "prompt": "abc",
        "max_tokens": 4,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
    } | {
        "seed": 5,
        "stop": ["x"],
    }
    assert second.startswith(b"POST /v1/chat/completions ")
    assert two["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert (two["stream"], two["stream_options"]) == (True, {"include_usage": True})
    assert (two["logprobs"], two["top_logprobs"], three["logprobs"]) == (True, 1, 2)


def test_bias_is_sent_where_there_is_one() -> None:
    upstream = Upstream(*[whole(ANSWER)] * 2)

    async def check(client: HttpCompletions) -> None:
        await answer(client, ask(1, streamed=False, logit_bias=((5, 1.5), (7, -2.0))))
        await answer(client, ask(2, streamed=False))

    against(upstream, check)
    (_, one), (_, two) = upstream.requests
    assert one["logit_bias"] == {"5": 1.5, "7": -2.0}
    assert "logit_bias" not in two


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_what_is_thought_apart_is_told_apart_and_counted(field: str) -> None:
    deltas: list[Any] = [{"choices": [{"delta": {field: one}}]} for one in ("I ", "think")]
    deltas += [{"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}]
    message = {"content": "hi", field: "I think"}
    document = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}

    async def check(client: HttpCompletions) -> None:
        streamed = await answer(client, ask(1))
        assert [(one.text, one.reasoning, one.tokens) for one in streamed.pieces] == [
            ("", "I ", 1), ("", "think", 1), ("hi", "", 1)
        ]  # fmt: skip
        assert streamed.end.completion_tokens == 3
        (piece,) = (await answer(client, ask(2, streamed=False))).pieces
        assert (piece.text, piece.reasoning) == ("hi", "I think")

    against(Upstream(events(*deltas, DONE), whole(document)), check)


VECTORS = {
    "data": [{"index": 1, "embedding": [0.5, -1]}, {"index": 0, "embedding": [1, 2]}],
    "usage": {"prompt_tokens": 7},
}
ODD_VECTORS: dict[str, Any] = {
    "one too few": VECTORS | {"data": VECTORS["data"][:1]},  # type: ignore[index]
    "two widths": {"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]},
    "twice the same": {"data": [{"index": 0, "embedding": [1]}] * 2},
    "states of tokens": {"data": [{"index": at, "embedding": [[1.0], [2.0]]} for at in range(2)]},
    "none": {"data": []},
    "empty": {"data": [{"index": at, "embedding": []} for at in range(2)]},
    "no document": [],
}


def test_vectors_come_in_order() -> None:
    upstream = Upstream(whole(VECTORS))

    async def check(client: HttpCompletions) -> None:
        made = (await answer(client, embed("a", "b"))).embedded
        assert (made.width, made.prompt_tokens) == (2, 7)
        assert struct.unpack("<4f", made.vectors) == (1, 2, 0.5, -1)

    against(upstream, check, model="theirs")
    ((first, one),) = upstream.requests
    assert first.startswith(b"POST /v1/embeddings ")
    assert one == {"model": "theirs", "input": ["a", "b"]}


@pytest.mark.parametrize("name", ODD_VECTORS)
def test_vectors_that_can_not_be_read(name: str) -> None:
    async def check(client: HttpCompletions) -> None:
        assert (await answer(client, embed("a", "b"))).code == "failed"

    against(Upstream(whole(ODD_VECTORS[name])), check)


@pytest.mark.parametrize(
    ("status", "code"),
    [("501 Not Implemented", "unsupported"), ("400 Bad Request", "bad_prompt"), ("500 No", "unavailable")],
)
def test_an_upstream_without_vectors(status: str, code: str) -> None:
    async def check(client: HttpCompletions) -> None:
        assert (await answer(client, embed("a"))).code == code

    against(Upstream(whole({"error": {"message": "secret"}}, status)), check)


def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    upstream = Upstream(whole(ANSWER), None, whole(ANSWER))

    async def check(client: HttpCompletions) -> None:
        assert (await answer(client, ask(1, streamed=False))).text == "hi"
        assert (await answer(client, ask(2, streamed=False))).text == "hi"

    against(upstream, check)
    assert upstream.connections == 2


def test_a_silent_server_is_given_up() -> None:
    async def check(client: HttpCompletions) -> None:
        assert (await answer(client, ask(1))).code == "unavailable"
        asker = await answer(client, ask(2))
        assert (asker.text, asker.code) == ("a", "unavailable")

    against(Upstream(b"", events(word("a"), end=False)), check)


def test_a_cancel_closes_the_connection() -> None:
    upstream = Upstream(events(word("a"), end=False))

    async def check(client: HttpCompletions) -> None:
        asker = begin(client, ask(1))
        await asker.spoken()
        client.cancel("r1")
        await asyncio.wait_for(upstream.lost.wait(), 5)
        assert asker.text == "a"
        early: Asker = begin(client, ask(2))
        client.cancel("r2")
        await asyncio.sleep(0.05)
        assert early.heard == []

    against(upstream, check)


def test_nobody_listens_and_then_somebody_does() -> None:
    async def go() -> None:
        upstream = Upstream(whole(ANSWER))
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        client = HttpCompletions(f"http://127.0.0.1:{port}/v1/", patience=QUICK)
        await client.start()
        assert (await answer(client, ask(1))).code == "unavailable"
        assert not client.ready()
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", port)
        await until_ready(client)
        assert (await answer(client, ask(2, streamed=False))).text == "hi"
        client.close()
        server.close()
        await asyncio.sleep(0.02)

    asyncio.run(go())


def test_more_than_the_connections_is_busy() -> None:
    async def check(client: HttpCompletions) -> None:
        first = begin(client, ask(1))
        assert (await answer(client, ask(2))).code == "busy"
        assert (await first.ended()).code == "unavailable"

    against(Upstream(b""), check, most=1)


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "http://u:p@h", "http://h/?x=1", "http://h:99999", "http://h /v1", "http://h\r\n/v1"]
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(BadSettings):
        HttpCompletions(url)


def test_a_key_is_one_word() -> None:
    with pytest.raises(BadSettings):
        HttpCompletions("http://h", Secret(b"a\r\nX: y"))


def _certificate(place: Path) -> Path:
    """Write a certificate for 127.0.0.1 that nobody has signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")])
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - OpenSSL looks at the real clock
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    raw = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    file = place / "engine.pem"
    file.write_bytes(raw + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


@pytest.mark.parametrize("trusted", [False, True])
def test_tls_is_believed_only_with_a_certificate_that_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    file = _certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)

    async def go() -> None:
        upstream = Upstream(whole(ANSWER))
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        client = HttpCompletions(f"https://127.0.0.1:{port}", patience=QUICK)
        asker = await answer(client, ask(1, streamed=False))
        if trusted:
            assert asker.text == "hi"
        else:
            assert (asker.code, upstream.requests) == ("unavailable", [])
        client.close()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(go())
