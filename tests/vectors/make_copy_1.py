"""Write tests/vectors/copy-1: a copy under an embargo, its recipient's keys, its release share. Run once a format.

    python -m tests.vectors.make_copy_1

The keys in it are drawn for this and guard nothing. Another run draws others: what is committed stays.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import msgspec

from strongroom.access.policy import Question
from strongroom.core.secrets import Secret
from strongroom.custody.housekeys import RELEASE_MASTER
from strongroom.custody.recipient_keys import public_file
from strongroom.custody.release import commitment, derive_share, release, released_key
from strongroom.custody.tensors import SealedCheckpoint
from tests.access.conftest import made_office
from tests.clock import StepClock
from tests.custody.issuing import NAME, set_up

PLACE = Path(__file__).parent / "copy-1"
EMBARGO = "2027-01-31"


def main() -> None:
    """Issue a copy in a home of its own, and keep what a recipient gets."""
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder, made_office(Path(folder), clock) as office:
        desk = set_up(office, Path(folder), rows=9)
        issued = desk.issue(desk.order(embargo=EMBARGO, expires="2099-12-31"))
        clock.step(days=100)
        PLACE.mkdir()
        release(desk.premises, desk.carla, NAME, embargo=EMBARGO, out=PLACE / "release.share")
        shutil.copytree(issued.path, PLACE / "good")
        for file in (desk.root / "lab.key", public_file(desk.root / "lab.key")):
            shutil.copy(file, PLACE / file.name)
        share = (PLACE / "release.share").read_bytes()
        found = desk.received(issued)
        key = found.data_key(desk.seed(), share)
        with SealedCheckpoint(found.open(desk.seed(), share, now=clock.now())) as ours:
            tensors = {name: hashlib.sha256(ours.get_tensor(name).tobytes()).hexdigest() for name in ours.keys()}  # noqa: SIM118
        question = Question("custody.release", purpose="vectors")
        master = desk.premises.housekeys.obtain(desk.carla, RELEASE_MASTER, question)
        fixed = derive_share(Secret(bytes(range(32))), "ckpt_vector", EMBARGO)
        note = {
            "issuer": found.issuer,
            "copy": issued.copy,
            "manifest": issued.manifest,
            "digest": issued.digest,
            "mark": msgspec.to_builtins(issued.mark),
            "data_key": key.reveal().hex() if key else "",
            "release_master": master.reveal().hex(),
            "tensors": tensors,
            "derived": {  # of the master 00 01 … 1f, the version `ckpt_vector`, and this embargo; wrapped 20 21 … 3f
                "embargo": EMBARGO,
                "share": fixed.reveal().hex(),
                "commitment": commitment(fixed),
                "data_key": released_key(Secret(bytes(range(32, 64))), fixed, "copy_vector").reveal().hex(),
            },
        }
        (PLACE / "note.json").write_text(json.dumps(note, indent=1) + "\n")


if __name__ == "__main__":
    main()
