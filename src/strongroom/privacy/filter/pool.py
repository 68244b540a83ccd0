"""A pool of processes for pure functions; one job runs them right here."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from strongroom.core.errors import StoreUnavailable

Task = TypeVar("Task")
Done = TypeVar("Done")


def run(jobs: int, function: Callable[[Task], Done], tasks: Iterable[Task]) -> Iterator[Done]:
    """Yield the function's results, in the tasks' order. Errors are raised as the function raised them.

    Raises:
        StoreUnavailable: a process of the pool was killed.

    """
    if jobs == 1:
        yield from map(function, tasks)
        return
    # not forked: threads and locks of this process stay here
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield from pool.map(function, tasks)
        except BrokenProcessPool:
            message = "a process of the pool was killed (out of memory?)"
            raise StoreUnavailable(message, where="--jobs", remedy="Repeat the command with fewer --jobs.") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
