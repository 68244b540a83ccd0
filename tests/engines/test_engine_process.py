"""An engine in a process of its own: weights and marks by link from control, answers by link to a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from strongroom.access import lockbox
from strongroom.backends.engine_link import LinkCompletions
from strongroom.backends.link_unix import listen
from strongroom.core.canonical import encode
from strongroom.core.errors import NotPermitted
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.vault import Purpose
from strongroom.ports.brokerage import FromEngine, MarkReleased, MarkWanted, WeightsReleased, Withheld
from strongroom.ports.links import Link, Listening, Receiver
from strongroom.wiring.engine_process import EngineSetup
from strongroom.wiring.home import open_home
from tests.journeys.shell import Shell
from tests.ports.asking import answer, ask, begin, until_ready

LINK_SECRET = os.urandom(32)


class Control:
    """Control's end: releases what a test lets it."""

    def __init__(self, place: Path, released: WeightsReleased) -> None:
        self.place = place
        self.released = released
        self.withhold: set[str] = set()
        self.asked: list[FromEngine] = []
        self.link: Link | None = None
        self.listening: Listening | None = None

    async def open(self) -> None:
        self.listening = await listen(self.place / "control", Secret(LINK_SECRET), self._accept)

    def close(self) -> None:
        if self.listening is not None:
            self.listening.close()

    def _accept(self, role: str) -> tuple[Any, Receiver] | None:
        return (FromEngine, self) if role == "engine" else None

    def on_open(self, link: Link) -> None:
        self.link = link

    def on_message(self, message: FromEngine) -> None:
        self.asked.append(message)
        assert self.link is not None
        about = "mark" if isinstance(message, MarkWanted) else "weights"
        if about in self.withhold:
            account = message.account if isinstance(message, MarkWanted) else ""
            self.link.send(Withheld(about=about, account=account, code="access.not_permitted"))
        elif isinstance(message, MarkWanted):
            key = message.account.encode().ljust(16, b".")
            self.link.send(MarkReleased(account=message.account, epoch="2026-11", key=key, until=4e9))
        else:
            self.link.send(self.released)

    def on_lost(self) -> None:
        self.link = None


class Running:
    """An engine's process, its control and a gateway."""

    def __init__(self, control: Control, home: Path) -> None:
        self.control = control
        self.home = home
        self.process: asyncio.subprocess.Process | None = None
        self.client = LinkCompletions(control.place / "engine", Secret(LINK_SECRET))

    async def start(self) -> asyncio.subprocess.Process:
        place = self.control.place
        setup = EngineSetup(
            engine=str(place / "engine"), control=str(place / "control"), secret=LINK_SECRET.hex(), home=str(self.home)
        )
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "strongroom.wiring.engine_process",
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(setup) + b"\n")
        return self.process

    async def ended(self) -> tuple[int, list[dict[str, Any]]]:
        assert self.process is not None
        _, said = await asyncio.wait_for(self.process.communicate(), 20)
        assert self.process.returncode is not None
        return self.process.returncode, [json.loads(line) for line in said.splitlines()]

    async def stop(self) -> None:
        self.client.close()
        self.control.close()
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, make_plain: Callable[..., Path]) -> tuple[Path, WeightsReleased]:
    """A home with a sealed model, and what control releases of it to an engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockbox, "_MEMORY_KIB", 64)
        patch.setattr(lockbox, "_PASSES", 1)
        shell = Shell(tmp_path_factory.mktemp("engine")).settle()
        assert shell("custody", "seal", str(make_plain()), "tiny:v1", who="carla").status == 0
        home = open_home(shell.home)
        rosa = home.desk.authenticate("rosa", Secret(b"passphrase of rosa"))
        lease, key = home.vault.release(rosa, CheckpointName("tiny", "v1"), Purpose("serve", {"for": "serve"}))
        (entry,) = home.ledger.tail(1)
        assert (entry.event.action, entry.event.outcome) == ("custody.open", "granted")
        ada = home.desk.authenticate("ada", Secret(b"passphrase of ada"))
        with pytest.raises(NotPermitted):
            home.vault.release(ada, CheckpointName("tiny", "v1"), Purpose("serve", {}))
        home.close()
    return shell.home, WeightsReleased(model="tiny:v1", lease=encode(lease), key=key.reveal())


@pytest.fixture
def run(sealed: tuple[Path, WeightsReleased], tmp_path: Path) -> Callable[..., None]:
    def run(test: Callable[[Running], Awaitable[None]]) -> None:
        async def go() -> None:
            control = Control(tmp_path, sealed[1])
            running = Running(control, sealed[0])
            await control.open()
            await running.client.start()
            try:
                await test(running)
            finally:
                await running.stop()

        asyncio.run(go())

    return run


def test_it_serves_survives_control_and_ends_when_told(run: Callable[..., None]) -> None:
    async def check(running: Running) -> None:
        control, client = running.control, running.client
        process = await running.start()
        await until_ready(client)
        assert client.served is not None
        assert (client.served.model, client.served.context) == ("tiny:v1", 64)
        for number in range(3):
            hot = await answer(client, ask(number, temperature=1.0, seed=4, max_tokens=20))
            assert hot.begun.marked
            assert hot.end.marked_tokens > 0
        assert [type(one).__name__ for one in control.asked] == ["WeightsWanted", "MarkWanted"]
        # control restarts: what is known goes on, what is not is asked over the next link
        control.close()
        assert (await answer(client, ask(3, temperature=1.5))).end
        asker = begin(client, ask(4, temperature=1.5, account="other"))
        await asyncio.sleep(0.2)
        await control.open()
        assert (await asker.ended()).end
        control.withhold.add("mark")
        assert (await answer(client, ask(5, temperature=1.0, account="third"))).code == "mark_unavailable"
        process.send_signal(signal.SIGTERM)
        status, lines = await running.ended()
        told = [(line["event"], line["level"]) for line in lines]
        assert (status, told) == (0, [("link lost", "warning"), ("no mark", "warning")])

    run(check)


def test_killed_in_the_middle_and_started_again(run: Callable[..., None]) -> None:
    async def check(running: Running) -> None:
        process = await running.start()
        await until_ready(running.client)
        asker = begin(running.client, ask(1, max_tokens=60, prompt="a"))
        await asker.spoken()
        process.kill()
        assert (await asker.ended()).heard
        assert isinstance(asker.heard[-1].id, str)
        assert asker.code == "unavailable"
        await running.ended()
        assert not running.client.ready()
        assert (await answer(running.client, ask(2))).code == "unavailable"
        await running.start()
        await until_ready(running.client)
        assert (await answer(running.client, ask(3))).end
        assert running.process is not None
        assert running.process.stdin is not None
        running.process.stdin.close()  # the parent is gone
        assert (await running.ended())[0] == 0

    run(check)


def test_withheld_weights_end_it_with_one_line(run: Callable[..., None]) -> None:
    async def check(running: Running) -> None:
        running.control.withhold.add("weights")
        await running.start()
        status, lines = await running.ended()
        assert status == 3
        assert [(line["level"], line["code"]) for line in lines] == [("error", "access.not_permitted")]

    run(check)


def test_another_key_or_folder_opens_nothing(run: Callable[..., None]) -> None:
    async def check(running: Running) -> None:
        running.control.released = msgspec.structs.replace(running.control.released, key=bytes(32))
        await running.start()
        status, lines = await running.ended()
        assert (status, lines[-1]["level"]) == (4, "error")
        assert bytes(32).hex() not in json.dumps(lines)

    run(check)


@pytest.mark.parametrize("line", [b"", b"{}", b"not json", b'{"engine": 5}', b"x" * 200_000])
def test_a_setup_that_is_none(line: bytes) -> None:
    async def go() -> None:
        program = [sys.executable, "-m", "strongroom.wiring.engine_process"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*program, stdin=pipe, stderr=pipe)
        _, said = await asyncio.wait_for(process.communicate(line + b"\n"), 20)
        assert process.returncode == 2
        assert [json.loads(one)["code"] for one in said.splitlines()] == ["usage.bad_input"]

    asyncio.run(go())
