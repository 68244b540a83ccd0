"""Write the vectors of ledger-1 anew, from fixed keys and events: what it writes must be what is committed."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from strongroom.core.secrets import Secret
from strongroom.ledger import checkpoints, events
from strongroom.ledger.events import Entry, Event
from strongroom.ledger.merkle import Frontier, leaf_hash, prove_inclusion
from strongroom.ledger.notes import LOG_KEY, WITNESS_KEY, Note, Signer
from strongroom.ledger.proofs import write_bundle
from strongroom.ledger.tiles import Growth, nodes

LOG = Signer("strongroom.local/vectors", LOG_KEY, Secret(bytes(range(32))))
WITNESS = Signer("witness.example/vectors", WITNESS_KEY, Secret(bytes(range(32, 64))))


def event(turn: int) -> Event:
    """Return one of the log's events: all outcomes, all kinds of detail, text beyond ASCII."""
    return Event(
        id=f"evt_{turn:030}",
        at="2026-11-23T07:17:39.125Z",
        who="person:alice",
        action="custody.open",
        object="checkpoint:model:v1",
        host="host-1",
        why='Prüfung \N{SNOWMAN} \U0001f512 "quoted" \\ \x01',
        outcome=("granted", "refused", "done", "failed")[turn % 4],
        detail={"count": turn, "first": turn == 0, "ключ": "значение"},
        claim=f"request:{turn}" if turn % 2 else None,
    )


def vectors() -> dict[str, bytes]:
    """Return the files by name; a bad one is named after the error that it must raise."""
    raws = [events.encode(event(turn)) for turn in range(300)]
    growth = Growth(Frontier(), {})
    growth.extend(leaf_hash(raw) for raw in raws)
    head = checkpoints.sign(300, growth.frontier.root(), LOG)
    note = Note.parse(head.text, where="vector")
    text = Note(note.text, (*note.signatures, WITNESS.cosign(note.text, 1679315147))).encode()
    cosigned = checkpoints.SignedCheckpoint(head.origin, head.size, head.root, text)
    proof = prove_inclusion(7, 300, nodes(lambda level, n: growth.changed.get((level, n))))
    good = write_bundle(Entry(7, event(7), raws[7]), proof, cosigned)
    other = base64.b64encode(raws[8])
    return {
        "entry.json": raws[7],
        "checkpoint": text,
        "vkey": f"{LOG.verifier.vkey}\n".encode(),
        "witness.vkey": f"{WITNESS.verifier.vkey}\n".encode(),
        "good.tlog-proof": good,
        "index.ProofInvalid.tlog-proof": good.replace(b"\nindex 7\n", b"\nindex 8\n"),
        "entry.ProofInvalid.tlog-proof": good.replace(base64.b64encode(raws[7]), other),
        "size.ProofInvalid.tlog-proof": good.replace(b"\n300\n", b"\n301\n"),
        "truncated.ProofInvalid.tlog-proof": good[: len(good) // 2],
    }


if __name__ == "__main__":
    for name, data in vectors().items():
        (Path(sys.argv[1]) / name).write_bytes(data)
