"""A copy leaves marked, approved, in the ledger, and encrypted to its recipient; or it does not leave."""

from __future__ import annotations

import datetime as dt
import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.access.settle import settle
from strongroom.core.canonical import encode
from strongroom.core.copy_errors import Embargoed, MarkTooWeak, NoSuchCopy, NoSuchRecipient, NothingToMark
from strongroom.core.errors import (
    AlreadyExists,
    ApprovalAltered,
    ApprovalNeeded,
    BadInput,
    Busy,
    LedgerUnavailable,
    NotPermitted,
    RecordAltered,
    SelfApproval,
    StrongroomError,
)
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.companions import check_companions
from strongroom.custody.copies import status
from strongroom.custody.copy_formats import IssuedCopy
from strongroom.custody.formats import Content
from strongroom.custody.housekeys import HOUSE_KEYS, LINEAGE_MASTER, RELEASE_MASTER
from strongroom.custody.issue import Order
from strongroom.custody.marked import MarkedReader, ReaderTensors
from strongroom.custody.plain import write_plain
from strongroom.custody.read import Reader
from strongroom.custody.recipients import Recipient
from strongroom.custody.release import derive_share, release
from strongroom.custody.tensors import SealedCheckpoint
from strongroom.ledger.events import Event
from strongroom.ledger.log import Ledger
from strongroom.ports.marks import PerplexityCost
from tests.access import conftest
from tests.access.office import Office
from tests.clock import StepClock
from tests.custody.house import Sealed, sealed
from tests.custody.issuing import NAME, Desk, model, set_up, weights
from tests.custody.marking import UlpMark, UlpMarks

office = conftest.office


@pytest.fixture
def desk(office: Office, tmp_path: Path) -> Desk:
    return set_up(office, tmp_path)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    place = tmp_path_factory.mktemp("marked")
    return sealed(model(place / "model"), place / "blobs")


def bits(array: np.ndarray) -> np.ndarray:
    return array.view({2: np.uint16, 4: np.uint32}[array.dtype.itemsize]).astype(np.int64)


# ── reading with a mark ──────────────────────────────────────────────────────────────────────────────────────────────
def whole(house: Sealed, mark: UlpMark) -> bytes:
    """The model's file, marked by hand."""
    data = bytearray((house.root.parent / "model" / "model.safetensors").read_bytes())
    at = 8 + int.from_bytes(data[:8], "little")
    for name, (_, array) in weights().items():
        if name in mark.names():
            mark.apply(name, 0, memoryview(data)[at : at + array.nbytes])
        at += array.nbytes
    return bytes(data)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_range_is_that_of_the_marked_whole(house: Sealed, data: st.DataObject) -> None:
    with closing(house.reader()) as source:
        mark = UlpMarks().prepare("c", "x", ReaderTensors(source))
        marked, wanted = MarkedReader(source, mark), whole(house, mark)
        file = next(one.file for one in marked.contents.files if one.kind == "safetensors")
        assert marked.size(file) == len(wanted)
        start = data.draw(st.integers(0, len(wanted)))
        stop = min(len(wanted), start + data.draw(st.one_of(st.integers(0, 9), st.integers(0, len(wanted)))))
        buffer = bytearray(stop - start)
        marked.read_into(file, start, memoryview(buffer))
        assert bytes(buffer) == wanted[start:stop]


def test_it_stands_wherever_a_reader_does(house: Sealed) -> None:
    source = house.reader()
    mark = UlpMarks().prepare("c", "x", ReaderTensors(source))
    marked, wanted = MarkedReader(source, mark), whole(house, mark)
    file = next(one.file for one in marked.contents.files if one.kind == "safetensors")
    area, steps = memoryview(bytearray(len(wanted))), list[int]()
    with ThreadPoolExecutor(2) as pool:
        marked.load_into(file, area, pool=pool, progress=lambda done, _total: steps.append(done))
    assert bytes(area) == wanted
    assert steps[-1] == len(wanted)
    with SealedCheckpoint(marked) as ours:
        for name, (_, array) in weights().items():
            found = ours.get_tensor(name)
            assert found.shape == array.shape
            if "mlp" in name:
                assert set(np.unique(bits(found) - bits(array))) <= {-1, 0, 1}
                assert (bits(found) != bits(array)).mean() > 0.99
            else:
                assert np.array_equal(found, array)
        assert ours.read_file("config.json") == (house.root.parent / "model" / "config.json").read_bytes()
        assert "mlp" in marked.describe(file, 1)


def test_pieces_of_tensors(house: Sealed) -> None:
    with closing(house.reader()) as source:
        tensors = ReaderTensors(source)
        name = "layers.0.mlp.up.weight"
        dtype, array = weights()[name]
        assert tensors.infos()[name].dtype == dtype
        assert tensors.infos()[name].shape == array.shape
        piece = bytearray(200)
        tensors.read_into(name, 1000, memoryview(piece))
        assert bytes(piece) == array.tobytes()[2000:2200]
        tensors.read_into("empty", 0, memoryview(bytearray()))
        for first, length in ((0, 3), (-1, 2), (array.size - 1, 4)):
            with pytest.raises(BadInput):
                tensors.read_into(name, first, memoryview(bytearray(length)))
        with pytest.raises(BadInput, match="no such tensor"):
            tensors.read_into("absent", 0, memoryview(bytearray(2)))
        mark = UlpMarks().prepare("c", "x", tensors)
        mark.infos = {**mark.infos, "absent": mark.infos[name]}
        with pytest.raises(BadInput, match="can't carry"):
            MarkedReader(source, mark)


# ── the journey ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_copy_is_marked_for_its_recipient_alone(desk: Desk, clock: StepClock) -> None:
    one, two = desk.issue(), desk.issue(desk.order("two"))
    assert desk.away == ["out", "two"]
    assert one.mark.commitment != two.mark.commitment
    assert one.mark.retained > 90
    found = []
    for issued in (one, two):
        opened = desk.received(issued)
        assert opened.verify().segments > 5
        with SealedCheckpoint(opened.open(desk.seed(), None, now=clock.now())) as ours:
            found.append({name: ours.get_tensor(name) for name in ours.keys()})  # noqa: SIM118 - no dictionary
    for name, (_, array) in weights().items():
        apart = [bits(copy[name]) - bits(array) if "mlp" in name else copy[name] != array for copy in found]
        assert all(np.abs(one).max(initial=0) == ("mlp" in name) for one in apart), name
        if "mlp" in name:
            assert 0.4 < (apart[0] != apart[1]).mean() < 0.6
    for path in (desk.root / "away").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_the_ledger_knew_before_the_copy_was_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    real = Ledger.append

    def watched(self: Ledger, event: Event) -> object:
        receipt = real(self, event)
        seen.append((f"{event.action} {event.outcome}", desk.away))
        return receipt

    desk.approve(desk.order())
    monkeypatch.setattr(Ledger, "append", watched)
    issued = desk.issuer().issue(desk.carla, NAME, desk.order())
    assert [what for what, _ in seen] == [
        "custody.issue granted", "lineage.decode granted", "custody.entered done", "custody.issued done",
    ]  # fmt: skip
    assert [there for _, there in seen] == [[], [".out.strongroom-partial"], [".out.strongroom-partial"], ["out"]]
    kept = desk.premises.copies.find(issued.copy)
    assert kept == issued
    assert kept.request.startswith("req_")
    assert (kept.host, kept.path) == ("testhost", str(desk.root / "away" / "out"))
    assert kept.log10_p < -100
    assert desk.premises.copies.of(NAME) == [issued]
    assert desk.premises.copies.of(CheckpointName("other", "v1")) == []


def test_what_the_second_person_signs(desk: Desk) -> None:
    order = desk.order(licence="research/7", embargo="2031-02-03", expires="2032-01-01")
    with pytest.raises(ApprovalNeeded):
        desk.issuer().issue(desk.carla, NAME, order)
    [request] = desk.office.desk.approvals.open_requests()
    wanted = request.statement.wanted
    key = desk.premises.recipients.find("lab").keys.fingerprint()[:16]
    assert wanted.destination == (
        f"lab (organisation, key {key}), licence research/7, embargo 2031-02-03, expires 2032-01-01, at {order.out}"
    )
    assert wanted.digest == desk.vault.registry.current(NAME).manifest
    assert wanted.purpose == "evaluation"
    with pytest.raises(SelfApproval):
        desk.office.desk.approve(request.statement.request, desk.carla)


@pytest.mark.parametrize(
    "other",
    [{"recipient": "rival"}, {"licence": "other"}, {"embargo": "2031-01-01"}, {"expires": "2031-01-01"},
     {"name": "elsewhere"}, {"purpose": "another"}],
    ids=lambda one: next(iter(one)),
)  # fmt: skip
def test_an_approval_is_for_this_copy_alone(desk: Desk, other: dict[str, str]) -> None:
    desk.add_recipient("rival")
    desk.approve(desk.order())
    with pytest.raises(ApprovalNeeded):
        desk.issuer().issue(desk.carla, NAME, desk.order(**other))
    assert desk.away == []
    desk.issuer().issue(desk.carla, NAME, desk.order())
    with pytest.raises(AlreadyExists):
        desk.issuer().issue(desk.carla, NAME, desk.order())


def test_an_approval_works_once(desk: Desk) -> None:
    issued = desk.issue()
    Path(issued.path).rename(desk.root / "taken")
    with pytest.raises(ApprovalNeeded):
        desk.issuer().issue(desk.carla, NAME, desk.order())


def test_an_approval_is_for_the_checkpoint_that_was_there(desk: Desk) -> None:
    desk.approve(desk.order())
    desk.vault.seal(desk.carla, model(desk.root / "new", seed=7), NAME)
    with pytest.raises(ApprovalAltered, match="digest"):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []


@pytest.mark.parametrize("role", ["owner", "researcher", "auditor"])
def test_who_may_not(desk: Desk, role: str) -> None:
    who: Identity = desk.office.owner if role == "owner" else desk.office.add("rosa", role)  # type: ignore[arg-type]
    with pytest.raises(NotPermitted):
        desk.issuer().issue(who, NAME, desk.order())
    assert desk.office.last().event.outcome == "refused"


@pytest.mark.parametrize(
    "wrong",
    [{"recipient": "nobody"}, {"licence": "a b"}, {"licence": "free, at /elsewhere"}, {"licence": ""},
     {"embargo": "2020-01-01"}, {"embargo": "tomorrow"}, {"embargo": "2031-02-30"}, {"expires": "2020-01-01"},
     {"embargo": "2031-02-03", "expires": "2031-02-03"}, {"purpose": ""}, {"purpose": "p" * 1001}],
    ids=str,
)  # fmt: skip
def test_an_order_without_sense_asks_nobody(desk: Desk, wrong: dict[str, str]) -> None:
    kind = NoSuchRecipient if "recipient" in wrong else BadInput
    with pytest.raises(kind):
        desk.issuer().issue(desk.carla, NAME, desk.order(**wrong))
    assert desk.office.desk.approvals.open_requests() == []
    assert desk.office.last().event.outcome == "failed"


def test_nothing_goes_into_the_home_or_over_something(desk: Desk) -> None:
    (desk.root / "away" / "out").write_text("here")
    with pytest.raises(AlreadyExists):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    inside = Order(recipient="lab", out=desk.root / "home" / "copy", purpose="p")
    with pytest.raises(BadInput, match="backups"):
        desk.issuer().issue(desk.carla, NAME, inside)
    assert desk.office.desk.approvals.open_requests() == []


def test_a_mark_that_is_not_found_again_does_not_leave(desk: Desk) -> None:
    desk.approve(desk.order())
    desk.marks.weaken = True
    with pytest.raises(MarkTooWeak):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []
    assert desk.premises.copies.all() == []
    last = desk.office.last().event
    assert (last.action, last.outcome, last.detail["code"]) == ("custody.issued", "failed", "lineage.mark_too_weak")


def test_the_mark_is_found_in_what_was_written_not_in_what_was_meant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that forgets to mark is noticed: the copy on the stage is what is looked at."""
    desk.approve(desk.order())
    monkeypatch.setattr(MarkedReader, "_apply", lambda *_: None)
    with pytest.raises(MarkTooWeak):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []


def test_a_checkpoint_without_an_mlp(desk: Desk, tmp_path: Path) -> None:
    desk.approve(desk.order())
    desk.marks.prepare = lambda *_, **__: UlpMarks().prepare("c", "x", _Nothing())  # type: ignore[method-assign]
    with pytest.raises(NothingToMark):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []


class _Nothing:
    def infos(self) -> dict[str, object]:
        return {}


STRAYS = ("model.gguf", "tf_model.h5", "flax_model.msgpack", "model.onnx", "x.safetensors.bak", "weights.SAFETENSORS",
          "LICENSE.gguf", "weights", ".json", "sub/model.onnx", "config.json.bak")  # fmt: skip


@pytest.mark.parametrize("stray", STRAYS)
def test_unmarked_weights_do_not_leave_in_a_marked_copy(desk: Desk, stray: str) -> None:
    folder = model(desk.root / "more", seed=7)
    (folder / stray).parent.mkdir(exist_ok=True)
    (folder / stray).write_bytes(b"the same weights, unmarked")
    desk.vault.seal(desk.carla, folder, NAME)
    desk.approve(desk.order())
    asked = list[object]()
    desk.marks.prepare = lambda *words, **_: asked.append(words)  # type: ignore[method-assign,assignment]
    with pytest.raises(BadInput, match="without a mark") as refused:
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert refused.value.where == stray
    assert "Seal a folder without it" in refused.value.advice
    assert (asked, desk.away) == ([], [])


def test_what_leaves_beside_the_weights(desk: Desk) -> None:
    names = ("tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "README", "LICENSE", "LICENSE-MIT",
             ".gitattributes", "modeling.py", "sub/config.yaml")  # fmt: skip
    folder = model(desk.root / "more", seed=7)
    (folder / "sub").mkdir()
    for name in names:
        (folder / name).write_text(name)
    desk.vault.seal(desk.carla, folder, NAME)
    found = desk.received(desk.issue())
    with SealedCheckpoint(found.open(desk.seed(), None, now=desk.office.journal.now())) as ours:
        for name in names:
            assert ours.read_file(name) == name.encode()


def test_what_leaves_beside_the_weights_is_small() -> None:
    for path in ("tokenizer.model", "tokenizer.json", "LICENSE"):
        fits = Content(path=path, size=64 << 20, file=1, kind="other")
        check_companions([fits, Content(path="w.safetensors", size=1 << 40, file=2, kind="safetensors")])
        with pytest.raises(BadInput, match="67,108,865 bytes"):
            check_companions([msgspec.structs.replace(fits, size=fits.size + 1)])


def kept_secrets(monkeypatch: pytest.MonkeyPatch) -> list[Secret]:
    """Keep every secret that custody draws, obtains or derives from now on."""
    kept = list[Secret]()
    for place, name in (
        ("issue", "new_data_key"), ("issue", "derive_share"), ("issue", "released_key"), ("release", "derive_share"),
        ("housekeys", "unwrap_key"), ("housekeys", "Secret"),
    ):  # fmt: skip
        module = importlib.import_module(f"strongroom.custody.{place}")
        real = getattr(module, name)

        def spied(*words: object, _real: Callable[..., Secret] = real, **more: object) -> Secret:
            kept.append(_real(*words, **more))
            return kept[-1]

        monkeypatch.setattr(module, name, spied)
    return kept


def test_the_keys_of_an_issue_are_wiped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_secrets(monkeypatch)
    desk.issue(desk.order(embargo="2031-01-01"))
    assert len(kept) == 5  # the data key, what its envelope holds, the share; the master, drawn and obtained
    assert [one.reveal() for one in kept] == [b""] * 5


@pytest.mark.parametrize("what", ["derive_share", "released_key", "commitment", "_document"])
def test_the_keys_of_an_issue_that_failed_are_wiped(desk: Desk, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    order = desk.order(embargo="2031-01-01")
    desk.approve(order)
    kept = kept_secrets(monkeypatch)
    monkeypatch.setattr(f"strongroom.custody.issue.{what}", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desk.issuer().issue(desk.carla, NAME, order)
    assert len(kept) >= 3
    assert [one.reveal() for one in kept] == [b""] * len(kept)


def test_the_master_of_a_release_that_failed_is_wiped(
    desk: Desk, clock: StepClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = (clock.now() + dt.timedelta(days=2)).strftime("%Y-%m-%d")
    desk.issue(desk.order(embargo=day))
    clock.step(days=3)
    kept = kept_secrets(monkeypatch)
    monkeypatch.setattr("strongroom.custody.release._share", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        release(desk.premises, desk.carla, NAME, embargo=day, out=desk.root / "chat.share")
    assert [one.reveal() for one in kept] == [b""]


def test_a_mark_whose_words_no_recipient_could_read(desk: Desk) -> None:
    desk.approve(desk.order())
    real = desk.marks.prepare

    def sloppy(*words: object, **more: object) -> UlpMark:
        mark = real(*words, **more)  # type: ignore[arg-type]
        mark.commitment = "no digest"
        return mark

    desk.marks.prepare = sloppy  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="commitment"):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []


def test_a_grant_opens_its_own_checkpoint_alone(desk: Desk) -> None:
    other = CheckpointName("other", "v1")
    desk.vault.seal(desk.carla, model(desk.root / "second", seed=3), other)
    grant = desk.office.desk.demand(desk.carla, Question("custody.open", NAME))
    with pytest.raises(NotPermitted, match="chat:v1"):
        desk.vault.unlocked(grant, desk.vault.registry.current(other))
    desk.vault.unlocked(grant, desk.vault.registry.current(NAME)).close()


@pytest.mark.parametrize("action", ["custody.issue", "lineage.decode", "custody.entered"])
def test_without_a_ledger_nothing_is_there(desk: Desk, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    desk.approve(desk.order())
    real = Ledger.append

    def lost(self: Ledger, event: Event) -> object:
        if event.action == action:
            raise LedgerUnavailable("the disk is gone", where="ledger")
        return real(self, event)

    monkeypatch.setattr(Ledger, "append", lost)
    with pytest.raises(LedgerUnavailable):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []
    assert desk.premises.copies.all() == []


def test_a_custodian_disabled_meanwhile(desk: Desk) -> None:
    desk.approve(desk.order())
    real = desk.marks.prepare

    def slow(*words: object, **more: object) -> UlpMark:
        desk.office.desk.disable("carla", desk.office.owner)
        return real(*words, **more)  # type: ignore[arg-type]

    desk.marks.prepare = slow  # type: ignore[method-assign]
    with pytest.raises(Exception, match="disabled"):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []
    assert desk.premises.copies.all() == []


def test_a_link_swapped_in_after_the_approval(desk: Desk) -> None:
    desk.approve(desk.order())
    real, elsewhere = desk.marks.prepare, desk.root / "elsewhere"
    elsewhere.mkdir()

    def slow(*words: object, **more: object) -> UlpMark:
        (desk.root / "away").rename(desk.root / "moved")
        (desk.root / "away").symlink_to(elsewhere)
        return real(*words, **more)  # type: ignore[arg-type]

    desk.marks.prepare = slow  # type: ignore[method-assign]
    with pytest.raises(ApprovalAltered):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert list(elsewhere.iterdir()) == list((desk.root / "moved").iterdir()) == []


def test_an_issue_to_a_place_that_is_being_written_to(desk: Desk) -> None:
    """Whoever came second fails, and touches nothing of what the first is writing."""
    desk.approve(desk.order(licence="first"))
    desk.approve(desk.order(licence="second"))
    real, seen = desk.marks.prepare, list[str]()

    def slow(*words: object, **more: object) -> UlpMark:
        mark = real(*words, **more)  # type: ignore[arg-type]
        back = mark.read_back

        def intruded(*them: object) -> object:
            desk.marks.prepare = real  # type: ignore[method-assign]
            with pytest.raises(Busy, match="same place"):
                desk.issuer().issue(desk.carla, NAME, desk.order(licence="second"))
            with pytest.raises(Busy, match="same place"), closing(opened(desk)) as reader:
                write_plain(reader, desk.root / "away" / "out", single=False)
            seen.extend(desk.away)
            return back(*them)  # type: ignore[arg-type]

        mark.read_back = intruded  # type: ignore[assignment,method-assign]
        return mark

    desk.marks.prepare = slow  # type: ignore[method-assign]
    issued = desk.issuer().issue(desk.carla, NAME, desk.order(licence="first"))
    assert (seen, desk.away) == ([".out.strongroom-partial"], ["out"])
    assert desk.received(issued).verify().segments
    assert desk.premises.copies.all() == [issued]


def opened(desk: Desk) -> Reader:
    grant = desk.office.desk.demand(desk.carla, Question("custody.open", NAME))
    return desk.vault.unlocked(grant, desk.vault.registry.current(NAME))


@pytest.mark.parametrize("lead", [0.0, 0.002, 0.01, 0.05, 0.2])
def test_two_issues_to_the_same_place_at_the_same_time(desk: Desk, lead: float) -> None:
    orders = [desk.order(licence=one) for one in ("first", "second")]
    for order in orders:
        desk.approve(order)
    start = threading.Barrier(2)

    def issue(order: Order, wait: float) -> IssuedCopy | StrongroomError:
        start.wait()
        time.sleep(wait)
        try:
            return desk.issuer().issue(desk.carla, NAME, order)
        except (Busy, AlreadyExists) as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(issue, orders, [0.0, lead]))
    [won] = [one for one in ended if isinstance(one, IssuedCopy)]
    assert desk.away == ["out"]
    assert desk.received(won).verify().segments
    assert desk.received(won).copy.licence == won.licence
    assert desk.premises.copies.placed() == {won.copy}


def test_what_a_kill_left_is_cleared_by_the_next(desk: Desk) -> None:
    left = desk.root / "away" / ".out.strongroom-partial"
    (left / ".stage").mkdir(parents=True)
    (left / ".stage" / "x").write_text("half")
    desk.issue()
    assert desk.away == ["out"]


def test_no_plaintext_on_the_stage_at_any_time(desk: Desk) -> None:
    plain = (desk.root / "model" / "model.safetensors").read_bytes()
    needles = [plain[at : at + 64] for at in range(600, len(plain) - 64, 2048)]
    stop, looked = threading.Event(), 0
    found: list[Path] = []

    def look() -> None:
        nonlocal looked
        while not stop.is_set():
            for path in (desk.root / "away").rglob("*"):
                if path.is_file():
                    data = path.read_bytes()
                    looked += len(data)
                    found.extend(path for one in needles if one in data)

    real = desk.marks.prepare

    def slow(*words: object, **more: object) -> UlpMark:
        mark = real(*words, **more)  # type: ignore[arg-type]
        back = mark.read_back

        def pause(*them: object) -> object:
            time.sleep(0.3)
            return back(*them)  # type: ignore[arg-type]

        mark.read_back = pause  # type: ignore[assignment,method-assign]
        return mark

    desk.marks.prepare = slow  # type: ignore[method-assign]
    desk.approve(desk.order())
    watcher = threading.Thread(target=_quiet(look))
    watcher.start()
    try:
        desk.issuer().issue(desk.carla, NAME, desk.order())
    finally:
        stop.set()
        watcher.join()
    assert found == []
    assert looked > len(plain)


def _quiet(look: object) -> object:
    def run() -> None:
        while True:
            try:
                look()  # type: ignore[operator]
            except OSError:  # a file that went away while it was looked at
                continue
            return

    return run


# ── recipients ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_name_stands_for_one_key_for_ever(desk: Desk) -> None:
    first = desk.premises.recipients.find("lab")
    with pytest.raises(AlreadyExists):
        desk.premises.recipients.add(desk.carla, Recipient(name="lab", kind="person", keys=desk.carl.keyring.public))
    assert desk.premises.recipients.find("lab") == first


def test_a_deed_put_in_anothers_place_is_refused(desk: Desk) -> None:
    issued = desk.issue()
    [stored] = [one for one in desk.office.records.scan("deed") if one.key.startswith("copy:")]
    altered = stored.document.replace(b'"kind":"organisation"', b'"kind":"device"')
    assert altered != stored.document
    settle(desk.office.records, "deed", put={stored.key: altered})
    with pytest.raises(RecordAltered):
        desk.premises.copies.find(issued.copy)


def test_an_auditor_enters_no_deed(desk: Desk) -> None:
    issued = desk.issue()
    other = msgspec.structs.replace(issued, copy="copy_other")
    with pytest.raises(NotPermitted):
        desk.premises.copies.enter(desk.office.add("ada", "auditor"), other)
    with pytest.raises(NoSuchCopy):
        desk.premises.copies.find("copy_unheard")


# ── what it costs ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_first_copy_is_measured_and_later_ones_carry_it(desk: Desk) -> None:
    calls: list[float] = []

    def measure(original: Reader, marked: Reader, _progress: object) -> PerplexityCost:
        ours, theirs = SealedCheckpoint(original), SealedCheckpoint(marked)
        name = "layers.0.mlp.down.weight"
        calls.append(float(np.abs(ours.get_tensor(name) - theirs.get_tensor(name)).max()))
        return PerplexityCost(ratio=0.0003, low=-0.0001, high=0.0007, tokens=1000, texts="ab" * 32)

    one = desk.issue(measure=measure)
    two = desk.issue(desk.order("two"), measure)
    three = desk.issue(desk.order("three"))
    assert len(calls) == 1
    assert 0 < calls[0] < 1e-6
    assert one.perplexity is not None
    assert one.perplexity.measured_on == one.copy
    assert two.perplexity == one.perplexity
    assert three.perplexity is None
    desk.vault.seal(desk.carla, model(desk.root / "new", seed=7), NAME)
    four = desk.issue(desk.order("four"), measure)
    assert len(calls) == 2
    assert four.perplexity is not None
    assert four.perplexity.measured_on == four.copy


# ── how copies stand, and staged release ─────────────────────────────────────────────────────────────────────────────
def test_how_copies_stand(desk: Desk, clock: StepClock, monkeypatch: pytest.MonkeyPatch) -> None:
    day = (clock.now() + dt.timedelta(days=10)).strftime("%Y-%m-%d")
    end = (clock.now() + dt.timedelta(days=20)).strftime("%Y-%m-%d")
    desk.issue(desk.order("a"))
    desk.issue(desk.order("b", embargo=day, expires=end))
    desk.approve(desk.order("c"))
    with monkeypatch.context() as patch:
        patch.setattr("strongroom.custody.issue.take_place", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.issuer().issue(desk.carla, NAME, desk.order("c"))
    copies = desk.premises.copies

    def stand(days: int) -> list[str]:
        return [status(one, copies.placed(), clock.now() + dt.timedelta(days=days)) for one in copies.all()]

    assert stand(0) == ["issued", "embargoed", "prepared"]
    assert stand(11) == ["issued", "issued", "prepared"]
    assert stand(21) == ["issued", "expired", "prepared"]
    assert desk.away == ["a", "b"]


def test_a_share_is_released_on_its_day_and_not_before(desk: Desk, clock: StepClock) -> None:
    day = (clock.now() + dt.timedelta(days=2)).strftime("%Y-%m-%d")
    desk.issue(desk.order(embargo=day))
    out = desk.root / "chat.share"

    def ask(who: Identity, embargo: str = day) -> object:
        return release(desk.premises, who, NAME, embargo=embargo, out=out)

    with pytest.raises(NotPermitted):
        ask(desk.office.add("ada", "auditor"))
    with pytest.raises(Embargoed):
        ask(desk.carla)
    assert not out.exists()
    clock.step(days=3)
    with pytest.raises(NoSuchCopy):
        ask(desk.carla, "2020-01-01")
    with pytest.raises(BadInput):
        ask(desk.carla, "then")
    ask(desk.carla)
    assert b"release-share@1" in out.read_bytes()
    assert desk.office.last().event.action == "custody.released"
    with pytest.raises(AlreadyExists):
        ask(desk.carla)


def test_shares_of_other_days_and_versions_differ(desk: Desk) -> None:
    master = desk.seed()
    shares = {derive_share(master, one, day).reveal() for one in ("a", "b") for day in ("2031-01-01", "2031-01-02")}
    assert len(shares) == 4


def test_house_keys_for_copies_are_their_holders_alone() -> None:
    assert {LINEAGE_MASTER, RELEASE_MASTER} <= set(HOUSE_KEYS)
    assert LINEAGE_MASTER.rights == ("lineage.decode",)
    assert RELEASE_MASTER.rights == ("custody.release",)


def test_a_copy_fits_its_documents(desk: Desk) -> None:
    issued = desk.issue()
    copy = desk.received(issued).copy
    for name in type(copy).__struct_fields__:
        if name not in {"format", "envelope"}:
            assert getattr(copy, name) == getattr(issued, name), name
    assert b"log10_p" not in encode(copy)
    assert b"envelope" not in encode(issued)
    assert {"copy.json", "copy.sig", "manifest.json", "manifest.sig"} < {p.name for p in Path(issued.path).iterdir()}
