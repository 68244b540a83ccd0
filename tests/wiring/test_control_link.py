"""The engine's link to control: marks are kept for their time, asked for once, and asked again over a new link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from strongroom.core.errors import NotPermitted, StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.ports.brokerage import MarkReleased, MarkWanted, WeightsReleased, WeightsWanted, Withheld
from strongroom.ports.links import End, Receiver
from strongroom.wiring import control_link
from strongroom.wiring.control_link import ControlLink
from tests.clock import StepClock


class FakeLink:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[msgspec.Struct] = []

    def send(self, message: msgspec.Struct) -> None:
        self.sent.append(message)

    def close(self) -> None:
        pass


def run(clock: StepClock, test: Callable[[ControlLink, FakeLink], Awaitable[None]]) -> None:
    async def idle(_end: End, _receiver: Receiver) -> None:
        await asyncio.Event().wait()

    async def go() -> None:
        control, link = ControlLink(Path("control"), Secret(b"s"), idle, clock=clock), FakeLink()
        await control.start()
        control.on_open(link)
        await test(control, link)
        control.close()

    asyncio.run(go())


def released(account: str, clock: StepClock, seconds: float = 60) -> MarkReleased:
    until = clock.now().timestamp() + seconds
    return MarkReleased(account=account, epoch="2026-11", key=bytes(16), until=until)


def test_a_mark_is_asked_for_once_and_again_after_its_time(clock: StepClock) -> None:
    async def check(control: ControlLink, link: FakeLink) -> None:
        both = [asyncio.ensure_future(control.mark("acme")) for _ in range(2)]
        await asyncio.sleep(0)
        assert link.sent == [MarkWanted(account="acme")]
        control.on_message(released("acme", clock))
        assert [(await one).epoch for one in both] == ["2026-11"] * 2
        await control.mark("acme")
        assert len(link.sent) == 1
        clock.step(seconds=61)
        again = asyncio.ensure_future(control.mark("acme"))
        await asyncio.sleep(0)
        assert len(link.sent) == 2
        control.on_message(Withheld(about="mark", account="acme", code="access.not_permitted"))
        with pytest.raises(NotPermitted):
            await again

    run(clock, check)


def test_one_who_leaves_does_not_take_the_mark_from_the_other(clock: StepClock) -> None:
    async def check(control: ControlLink, link: FakeLink) -> None:
        leaver, stayer = (asyncio.ensure_future(control.mark("acme")) for _ in range(2))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        assert leaver.cancelled() or leaver.cancelling()
        control.on_message(released("acme", clock))
        assert (await stayer).account == "acme"

    run(clock, check)


def test_what_was_not_answered_is_asked_again_over_the_next_link(clock: StepClock) -> None:
    async def check(control: ControlLink, link: FakeLink) -> None:
        weights, mark = control.weights(), asyncio.ensure_future(control.mark("acme"))
        await asyncio.sleep(0)
        control.on_lost()
        later = FakeLink()
        control.on_open(later)
        assert link.sent == later.sent == [WeightsWanted(), MarkWanted(account="acme")]
        control.on_message(released("acme", clock))
        control.on_message(WeightsReleased(model="m:1", lease=b"", key=b"k"))
        assert (await weights).model == "m:1"
        await mark
        control.on_message(WeightsReleased(model="m:2", lease=b"", key=b"k"))  # unasked: nothing happens
        control.on_open(link)
        assert len(link.sent) == 2

    run(clock, check)


def test_control_that_does_not_answer_and_the_end(clock: StepClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(control: ControlLink, link: FakeLink) -> None:
        monkeypatch.setattr(control_link, "_PATIENCE", 0.02)
        with pytest.raises(StoreUnavailable):
            await control.mark("acme")
        monkeypatch.setattr(control_link, "_PATIENCE", 5)
        waiting = asyncio.ensure_future(control.mark("other"))
        await asyncio.sleep(0)
        control.close()
        with pytest.raises(StoreUnavailable):
            await waiting

    run(clock, check)
