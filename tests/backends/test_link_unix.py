"""Links: only ends that know the secret and have a welcome role speak; all others learn and open nothing."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strongroom.backends import link_unix
from strongroom.backends.engine_link import LinkCompletions
from strongroom.backends.link_kept import keep
from strongroom.backends.link_unix import connect, listen
from strongroom.core.errors import StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.ports.completions import Cancel, Piece, Ready
from strongroom.ports.links import End, Link, Listening, Receiver
from tests.ports.asking import answer, ask

SECRET = Secret(b"s" * 32)


class Heard:
    """A receiver that keeps what it hears."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.messages: list[object] = []
        self.opened = asyncio.Event()
        self.told = asyncio.Event()
        self.lost = asyncio.Event()

    def on_open(self, link: Link) -> None:
        self.link = link
        self.opened.set()

    def on_message(self, message: object) -> None:
        self.messages.append(message)
        self.told.set()

    def on_lost(self) -> None:
        self.lost.set()


class House:
    """A listening end that takes gateways."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ends: list[Heard] = []
        self.listening: Listening | None = None

    async def open(self) -> None:
        self.listening = await listen(self.path, SECRET, self.accept)

    def accept(self, role: str) -> tuple[Any, Receiver] | None:
        if role != "gateway":
            return None
        self.ends.append(Heard())
        return Cancel, self.ends[-1]

    def end(self, secret: Secret = SECRET, role: str = "gateway") -> End:
        return End(self.path, secret, role, Piece)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    def run(test: Callable[[House], Awaitable[None]]) -> None:
        async def go() -> None:
            house = House(tmp_path / "socket")
            await house.open()
            assert house.listening is not None
            try:
                async with asyncio.timeout(20):
                    await test(house)
            finally:
                house.listening.close()
                await asyncio.sleep(0.01)

        asyncio.run(go())

    return run


async def raw(path: Path, *frames: bytes) -> bytes:
    """Send bytes as a stranger; return all that comes back until the other end hangs up."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        for frame in frames:
            writer.write(frame)
            await asyncio.sleep(0.01)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def frame(message: object) -> bytes:
    body = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


def test_messages_go_both_ways_whole_and_in_order(run: Callable[..., None]) -> None:
    async def check(house: House) -> None:
        ours = Heard()
        link = await connect(house.end(), ours)
        await asyncio.wait_for(ours.opened.wait(), 5)
        for number in range(500):
            link.send(Cancel(id=f"{number}"))
        large = Piece(id="big", text="x" * 5_000_000, tokens=1)
        theirs = house.ends[0]
        assert theirs.link is not None
        theirs.link.send(large)
        await ours.told.wait()
        while len(theirs.messages) < 500:  # noqa: ASYNC110 - a test
            await asyncio.sleep(0.01)
        assert theirs.messages == [Cancel(id=f"{number}") for number in range(500)]
        assert ours.messages == [large]
        link.close()
        await theirs.lost.wait()
        theirs.link.send(large)  # dropped: on_lost has said so

    run(check)


@pytest.mark.parametrize(
    ("secret", "role"), [(Secret(b"t" * 32), "gateway"), (SECRET, "engine"), (Secret(b""), "gateway")]
)
def test_a_wrong_secret_or_role_is_not_let_in(run: Callable[..., None], secret: Secret, role: str) -> None:
    async def check(house: House) -> None:
        heard = Heard()
        with pytest.raises(StoreUnavailable):
            await connect(house.end(secret, role), heard)
        assert heard.link is None
        assert house.ends == []

    run(check)


def test_a_squatter_on_the_path_learns_nothing(tmp_path: Path) -> None:
    seen = bytearray()

    async def squat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(4096))
        writer.write(frame({"proof": bytes(32), "nonce": bytes(32)}))
        seen.extend(await reader.read())
        writer.close()

    async def go() -> None:
        server = await asyncio.start_unix_server(squat, tmp_path / "socket")
        with pytest.raises(StoreUnavailable):
            await connect(End(tmp_path / "socket", SECRET, "gateway", Piece), Heard())
        server.close()
        await asyncio.sleep(0.01)

    asyncio.run(go())
    hello = msgspec.msgpack.decode(bytes(seen[4:]))
    assert sorted(hello) == ["nonce", "role"]  # and no proof that could be used elsewhere


def test_a_replayed_handshake_opens_nothing(run: Callable[..., None]) -> None:
    async def check(house: House) -> None:
        sent: list[bytes] = []

        async def listen_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            on_reader, on_writer = await asyncio.open_unix_connection(house.path)
            for _ in range(2):
                sent.append(await reader.read(4096))
                on_writer.write(sent[-1])
                writer.write(await on_reader.read(4096))
            await reader.read()
            on_writer.close()
            writer.close()

        middle = house.path.with_name("middle")
        server = await asyncio.start_unix_server(listen_in, middle)
        link = await connect(End(middle, SECRET, "gateway", Piece), Heard())
        assert len(house.ends) == 1
        await raw(house.path, *sent)
        assert len(house.ends) == 1
        link.close()
        server.close()

    run(check)


@pytest.mark.parametrize(
    "frames",
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
        (struct.pack(">I", 4097),),
        (struct.pack(">I", 0xFFFFFFFF) + bytes(100),),
        (frame(b"\xc1"),),
        (frame({"role": 5, "nonce": bytes(32)}),),
        (frame({"role": "gateway", "nonce": bytes(32)}), frame({"proof": bytes(32)})),
        (frame({"role": "gateway", "nonce": b""}), frame({"proof": b""})),
        (frame({"role": "gateway", "nonce": bytes(32)}), frame(Cancel(id="1"))),
        (frame([[]] * 200),),
    ],
)
def test_garbage_before_the_proof_is_hung_up_on(run: Callable[..., None], frames: tuple[bytes, ...]) -> None:
    async def check(house: House) -> None:
        await asyncio.wait_for(raw(house.path, *frames), 3)
        assert house.ends == []
        link = await connect(house.end(), Heard())
        link.close()

    run(check)


@pytest.mark.parametrize("said", [b"", b"\x00", frame({"role": "gateway", "nonce": bytes(32)})[:-5]])
def test_a_silent_peer_and_half_a_frame_are_not_waited_for(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(link_unix, "_PATIENCE", 0.1)

    async def check(house: House) -> None:
        await asyncio.wait_for(raw(house.path, said), 3)
        assert house.ends == []

    run(check)


@pytest.mark.parametrize(
    "said", [struct.pack(">I", (16 << 20) + 1), frame(b"\xc1"), frame({"type": "Unknown", "id": "x"})]
)
def test_garbage_after_the_proof_ends_the_link(run: Callable[..., None], said: bytes) -> None:
    async def check(house: House) -> None:
        heard = Heard()
        link = await connect(house.end(), heard)
        link._transport.write(said)  # type: ignore[attr-defined]
        await heard.lost.wait()
        await house.ends[0].lost.wait()
        assert house.ends[0].messages == []

    run(check)


def test_a_kept_link_comes_back(run: Callable[..., None]) -> None:
    async def check(house: House) -> None:
        heard = Heard()
        task = asyncio.create_task(keep(house.end(), heard))
        await heard.opened.wait()
        assert house.listening is not None
        heard.opened.clear()
        house.listening.close()
        await heard.lost.wait()
        await house.open()
        await heard.opened.wait()
        assert len(house.ends) == 2
        task.cancel()
        await house.ends[1].lost.wait()

    run(check)


def test_a_socket_that_a_dead_process_left_is_replaced(run: Callable[..., None]) -> None:
    async def check(house: House) -> None:
        other = House(house.path.with_name("stale"))
        other.path.touch()
        await other.open()
        link = await connect(other.end(), Heard())
        link.close()
        assert other.listening is not None
        other.listening.close()
        assert not other.path.exists()

    run(check)


def test_a_place_where_no_socket_can_be(tmp_path: Path) -> None:
    async def go() -> None:
        with pytest.raises(StoreUnavailable):
            await listen(tmp_path / "no" / "socket", SECRET, lambda _: None)
        with pytest.raises(StoreUnavailable):
            await connect(End(tmp_path / "none", SECRET, "gateway", Piece), Heard())

    asyncio.run(go())


def test_a_prompt_that_no_frame_holds_costs_nobody_the_link(run: Callable[..., None]) -> None:
    async def check(house: House) -> None:
        client = LinkCompletions(house.path, SECRET)
        client.on_open(Dropping())
        client.on_message(Ready(model="m", context=0))
        assert (await answer(client, ask(1, prompt="x" * (4 << 20)))).code == "prompt_too_long"
        client.close()

    run(check)


class Dropping:
    """A link that leads nowhere."""

    def send(self, message: msgspec.Struct) -> None:
        raise AssertionError(type(message))

    def close(self) -> None:
        pass
