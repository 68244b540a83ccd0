"""The demo's machinery: the real commands, run as a user would type them, with the faults planted in between."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from strongroom.cli.report_page import Outcome, Step
from strongroom.core.errors import StrongroomError

Document = dict[str, object]


@dataclass(slots=True)
class Tour:
    """One run: its folder, its screen, and what has been tried so far."""

    work: Path
    screen: Console
    steps: list[Step] = field(default_factory=list[Step])

    @property
    def home(self) -> Path:
        """The demo's home."""
        return self.work / "home"

    def call(self, *words: str, who: str = "") -> Document:
        """Run one ``strongroom`` command and return its JSON document; an error comes back under ``error``."""
        # what follows a bare -- belongs to the program that `exec` runs
        at = words.index("--") if "--" in words else len(words)
        typed = shlex.join([*words[:at], *(["--as", who] if who else []), *words[at:]])
        self.screen.print(f"  $ strongroom {typed}", style="cyan", markup=False)
        done = subprocess.run(  # noqa: S603 - our own command line
            self.command(*words, who=who), env=self.environment(), stdout=subprocess.PIPE, check=False
        )
        document: Document = json.loads(done.stdout or b"{}")
        return document

    def command(self, *words: str, who: str) -> list[str]:
        """Return a ``strongroom`` command as a program's words: as JSON, by `who`."""
        at = words.index("--") if "--" in words else len(words)
        credentials = ["--as", who, "--passphrase-file", str(self.passphrase(who))] if who else []
        return [sys.executable, "-m", "strongroom", *words[:at], *credentials, "--json", *words[at:]]

    def environment(self) -> dict[str, str]:
        """Return an environment that names the tour's home and nothing else of Strongroom's."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
        return clean | {"STRONGROOM_HOME": str(self.home)}

    def passphrase(self, who: str) -> Path:
        """Return the file with somebody's passphrase, drawn at the first use."""
        file = self.work / "passphrases" / who
        if not file.exists():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_urlsafe(18) + "\n")
        return file

    def step(self, name: str, tried: str, act: Callable[[], str], *, refusal: bool = False) -> None:
        """Run `act`, which returns what to tell, and note how it went; an error in it is a failed step."""
        self.screen.print(f"\n{len(self.steps) + 1}. {name}", style="bold", markup=False)
        began = time.monotonic()
        outcome: Outcome
        try:
            detail, outcome = act(), "refused" if refusal else "ok"
        except Unexpected as error:
            detail, outcome = str(error), "failed"
        except StrongroomError as error:
            detail, outcome = f"{error.code}: {error.message}", "failed"
        seconds = time.monotonic() - began
        style = {"ok": "green", "refused": "green", "failed": "bold red"}[outcome]
        self.screen.print(f"  → {detail}", style=style, markup=False)
        self.steps.append(Step(name=name, tried=tried, outcome=outcome, detail=detail, seconds=seconds))


class Unexpected(Exception):
    """A step did not end as it should have."""


def refused(document: Document, code: str) -> str:
    """Return what an error says, if it is the one with `code`.

    Raises:
        Unexpected: it is another, or none.

    """
    error = document.get("error")
    if not isinstance(error, dict) or pick(document, "error", "code") != code:
        raise Unexpected(f"expected {code}, got {json.dumps(document)[:200]}")
    return f"{code}: {pick(document, 'error', 'message')}  [{pick(document, 'error', 'where')}]"


def granted(document: Document) -> Document:
    """Return `document` if it is no error.

    Raises:
        Unexpected: it is one.

    """
    if "error" in document:
        raise Unexpected(json.dumps(document["error"])[:300])
    return document


def pick(document: object, *path: str | int) -> str:
    """Return what stands at `path` in a JSON document, as text.

    Raises:
        Unexpected: nothing stands there.

    """
    here: Any = document
    for key in path:
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            raise Unexpected(f"no {'.'.join(map(str, path))} in {json.dumps(document)[:200]}") from None
    return str(here)
