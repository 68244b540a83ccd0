"""Progress of work that tells of several things: a bar for each."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import Progress, TaskID

from strongroom.cli.frame import Call


@contextmanager
def watched(call: Call) -> Generator[Callable[[str, int, int], None]]:
    """Give a progress that draws a bar for each thing that it is told of."""
    with Progress(console=call.err, transient=True, disable=not call.err.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield progress
