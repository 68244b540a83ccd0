"""A home that issues copies: a desk, a vault over real stores, two custodians, a recipient with keys of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from strongroom.access.deeds import Deeds
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.backends.localfs import LocalBlobs
from strongroom.core.errors import ApprovalNeeded
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.copies import Copies, Premises
from strongroom.custody.copy_formats import IssuedCopy
from strongroom.custody.housekeys import HouseKeys
from strongroom.custody.issue import Issuer, Measure, Order
from strongroom.custody.pipeline import Options
from strongroom.custody.receive import Received, Shelf, receive
from strongroom.custody.recipient_keys import make_keys, public_file, read_public, read_seed
from strongroom.custody.recipients import COPIES, RECIPIENTS, Recipient, Recipients
from strongroom.custody.registry import Registry
from strongroom.custody.vault import Vault
from tests.access.office import Office
from tests.custody.house import SMALL
from tests.custody.marking import UlpMarks

NAME = CheckpointName("chat", "v1")
HOME = "home_test"


def weights(seed: int = 0, rows: int = 61) -> dict[str, tuple[str, np.ndarray]]:
    """Tensors whose sizes fit nothing: the MLP's elements lie across segments, and at odd places."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape).astype(np.float32)

    return {
        "odd": ("U8", draw.integers(0, 255, 3, dtype=np.uint8)),
        "layers.0.mlp.up.weight": ("BF16", normal(rows, 53).astype(ml_dtypes.bfloat16)),
        "layers.0.attn.weight": ("F32", normal(rows, 37)),
        "layers.0.mlp.down.weight": ("F32", normal(53, rows)),
        "empty": ("F32", np.zeros((0, 4), np.float32)),
        "layers.1.mlp.up.weight": ("F16", normal(rows, 53).astype(np.float16)),
    }


def write_shard(place: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """Write a safetensors file in the given order: the usual writer would put every tensor at an even place."""
    header: dict[str, object] = {}
    at, data = 0, b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        at, data = at + len(raw), data + raw
    head = json.dumps(header).encode()
    place.write_bytes(len(head).to_bytes(8, "little") + head + data)


def model(place: Path, seed: int = 0, rows: int = 61) -> Path:
    place.mkdir(parents=True)
    write_shard(place / "model.safetensors", weights(seed, rows))
    (place / "config.json").write_text(json.dumps({"model_type": "llama", "seed": seed}))
    return place


@dataclass
class Desk:
    """Everything that an issue needs, over real stores."""

    office: Office
    root: Path
    vault: Vault
    premises: Premises
    carla: Identity
    carl: Identity
    marks: UlpMarks = field(default_factory=UlpMarks)

    def issuer(self, measure: Measure | None = None) -> Issuer:
        return Issuer(self.premises, self.marks, measure=measure, options=Options(segment=SMALL, threads=1))

    def order(self, name: str = "out", **more: str) -> Order:
        return Order(**{"recipient": "lab", "purpose": "evaluation", **more}, out=self.root / "away" / name)

    def approve(self, order: Order, measure: Measure | None = None) -> str:
        """Ask, and have the other custodian agree."""
        with pytest.raises(ApprovalNeeded) as asked:
            self.issuer(measure).issue(self.carla, NAME, order)
        self.office.desk.approve(asked.value.where, self.carl)
        return asked.value.where

    def issue(self, order: Order | None = None, measure: Measure | None = None) -> IssuedCopy:
        order = order or self.order()
        self.approve(order, measure)
        return self.issuer(measure).issue(self.carla, NAME, order)

    def add_recipient(self, name: str) -> Path:
        """Make a recipient with keys; return the secret's file."""
        file = self.root / f"{name}.key"
        make_keys(file)
        self.premises.recipients.add(
            self.carla, Recipient(name=name, kind="organisation", keys=read_public(public_file(file)))
        )
        return file

    def seed(self, name: str = "lab") -> Secret:
        return read_seed(self.root / f"{name}.key")

    def received(self, issued: IssuedCopy, *, issuer: str | None = None) -> Received:
        return received(Path(issued.path), issuer=issuer)

    @property
    def away(self) -> list[str]:
        """What lies where copies go."""
        return sorted(path.name for path in (self.root / "away").iterdir())


def received(folder: Path, *, issuer: str | None = None) -> Received:
    return receive(Shelf(LocalBlobs(folder.parent), folder.name), issuer=issuer)


def premises(office: Office, root: Path, carla: Identity) -> tuple[Vault, Premises]:
    """Build the vault and what issuing needs over the stores of `office`."""

    def entitled(entry: object, name: CheckpointName) -> bool:
        del entry
        return office.desk.may(carla, Question("custody.seal", name)) == 0

    registry = Registry(office.records, office.journal, entitled=entitled)
    home = root / "home"
    vault = Vault(office.desk, office.journal, registry, blobs=LocalBlobs(home / "sealed"), inside=home)
    return vault, Premises(
        home=HOME,
        desk=office.desk,
        journal=office.journal,
        vault=vault,
        housekeys=HouseKeys(office.desk, office.journal, registry),
        recipients=Recipients(Deeds(office.records, office.journal, office.desk, series=RECIPIENTS, home=HOME)),
        copies=Copies(Deeds(office.records, office.journal, office.desk, series=COPIES, home=HOME), office.journal),
        folder=LocalBlobs,
    )


def set_up(office: Office, root: Path, *, rows: int = 61) -> Desk:
    """Seal a checkpoint and add a recipient."""
    carla, carl = office.add("carla", "custodian"), office.add("carl", "custodian")
    (root / "away").mkdir()
    vault, rest = premises(office, root, carla)
    desk = Desk(office, root, vault, rest, carla, carl)
    vault.seal(carla, model(root / "model", rows=rows), NAME)
    desk.add_recipient("lab")
    return desk
