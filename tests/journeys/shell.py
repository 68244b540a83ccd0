"""A terminal for tests: the real command line, in a process of its own or in this one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from strongroom.cli.main import main

PEOPLE = {"owner": "owner", "carla": "custodian", "carl": "custodian", "rosa": "researcher", "ada": "auditor"}


@dataclass(frozen=True)
class Said:
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass(frozen=True)
class Shell:
    """A terminal over one home, with a passphrase file for everybody."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    def passphrase(self, who: str) -> Path:
        file = self.root / f"{who}.pass"
        if not file.exists():
            file.write_text(f"passphrase of {who}\n")
        return file

    def words(self, words: tuple[str, ...], who: str) -> list[str]:
        at = words.index("--") if "--" in words else len(words)
        given = ["--as", who, "--passphrase-file", str(self.passphrase(who))] if who else []
        return [*words[:at], "--home", str(self.home), "--json", *given, *words[at:]]

    def __call__(self, *words: str, who: str = "") -> Said:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(self.words(words, who))
        return Said(status, out.getvalue(), err.getvalue())

    def process(self, *words: str, who: str = "", stdin: bytes = b"", raw: bool = False) -> Said:
        """Run a command as a program."""
        command = list(words) if raw else self.words(words, who)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
        done = subprocess.run(
            [sys.executable, "-m", "strongroom", *command],
            input=stdin,
            capture_output=True,
            env=clean,
            check=False,
            timeout=120,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def settle(self) -> Shell:
        """Make the home and its people."""
        assert self("init", "--passphrase-file", str(self.passphrase("owner"))).status == 0
        for name, role in PEOPLE.items():
            if name != "owner":
                added = ("access", "add", name, "--role", role, "--new-passphrase-file", str(self.passphrase(name)))
                assert self(*added, who="owner").status == 0
        return self


def model_folder(place: Path, *, seed: int = 1, rows: int = 257) -> Path:
    """Write a small sharded model with configuration and tokenizer; return its folder."""
    rng = np.random.default_rng(seed)
    place.mkdir(parents=True)
    for shard in (1, 2):
        tensors = {
            f"layer.{shard}.{name}": rng.standard_normal(shape).astype(np.float32)
            for name, shape in (("weight", (rows, 129)), ("bias", (257,)), ("scale", ()))
        }
        save_file(tensors, place / f"model-{shard:05}-of-00002.safetensors", metadata={"format": "pt"})
    (place / "config.json").write_text('{"model_type": "llama"}\n')
    (place / "tokenizer.json").write_text('{"version": "1.0"}\n')
    return place
