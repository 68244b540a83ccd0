"""For programs that want a path: memory files that live as long as the program does (rule 2).

A model of one file is an inherited memory file, ``/proc/self/fd/N``. A model of several is a private folder of links
to such files. The memory files are sealed against writing; the folder holds links, no byte of the model. What this does
not keep out is said in docs/custody.md: root, and other programs of the same user.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from strongroom.core.errors import BadInput
from strongroom.custody.memory import advise, workers
from strongroom.custody.read import Progress, Reader

PLACEHOLDER = "{model}"
_SECRETS = "STRONGROOM_"
_PR_SET_PDEATHSIG = 1
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_TYPED = frozenset({signal.SIGINT, signal.SIGQUIT})  # Ctrl-C and Ctrl-\ reach the program from the terminal itself
_SHELL_SIGNAL = 128


def run_with_model(reader: Reader, command: Sequence[str], *, progress: Progress | None = None) -> int:
    """Run `command`, whose ``{model}`` becomes the model's path, and return its exit status. `reader` is closed by it.

    The program gets the signals that this process gets (Ctrl-C once, from the terminal), dies with it, dumps no core,
    and sees no STRONGROOM_ variable.

    Raises:
        BadInput: ``{model}`` is not in the command, or the program can't be started.
        TamperError: a segment was altered; the program is not started.

    """
    if not any(PLACEHOLDER in word for word in command[1:]):
        raise BadInput(f"no {PLACEHOLDER} among the program's arguments", where=" ".join(command[:1]))
    with ExitStack() as stack:
        files = {
            entry.path: stack.enter_context(_memory_file(reader, entry.file, entry.path, progress=progress))
            for entry in reader.contents.files
        }
        reader.close()  # the program gets the model, never the key: it might look for it in this process's memory
        with _signals_kept() as child, _path_of(files) as path:
            words = [word.replace(PLACEHOLDER, path) for word in command]
            return child.run(words, list(files.values()))


@contextmanager
def _memory_file(reader: Reader, file: int, path: str, *, progress: Progress | None) -> Generator[int]:
    """Decrypt one file into a memory file; yield its descriptor."""
    size = reader.size(file)
    descriptor = os.memfd_create(path.rsplit("/", 1)[-1][:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        if size:
            area = mmap.mmap(descriptor, size)
            advise(area, size)
            view = memoryview(area)
            with ThreadPoolExecutor(workers()) as pool:
                reader.load_into(file, view, pool=pool, progress=progress)
            view.release()
            area.close()
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _path_of(files: dict[str, int]) -> Generator[str]:
    """Yield the path that the program is given: the memory file itself, or a private folder of links."""
    if len(files) == 1:
        yield f"/proc/self/fd/{next(iter(files.values()))}"
        return
    folder = Path(tempfile.mkdtemp(prefix="strongroom-"))
    try:
        for path, descriptor in files.items():
            link = folder / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/proc/self/fd/{descriptor}")
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Child:
    """The program, and the signals that arrive for it, even before it runs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: int | None = None

    def forward(self, number: int, _frame: FrameType | None) -> None:
        """Send the program the signal that this process got."""
        if self._process is None:
            self._early = number
        elif self._process.poll() is None and not (number in _TYPED and _at_the_front()):
            self._process.send_signal(number)

    def run(self, words: list[str], descriptors: list[int]) -> int:
        """Start the program, wait for it, return its exit status as a shell would."""
        if self._early is not None:
            return _SHELL_SIGNAL + self._early
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - running the program is what exec is for
                words,
                env=environment,
                pass_fds=descriptors,
                preexec_fn=_before_exec(os.getpid()),  # noqa: PLW1509 - no thread of ours is alive here
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise BadInput(f"the program can't be started: {type(error).__name__}", where=words[0][:200]) from None
        if self._early is not None:
            self._process.send_signal(self._early)
        status = self._process.wait()
        return status if status >= 0 else _SHELL_SIGNAL - status


def _at_the_front() -> bool:
    """Whether a terminal sends what is typed there to the whole group of this process, the program included."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextmanager
def _signals_kept() -> Generator[_Child]:
    """Forward signals to the program while it runs. Only the main thread may; elsewhere they stay as they are."""
    child = _Child()
    if threading.current_thread() is not threading.main_thread():
        yield child
        return
    heard = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]  # nohup's stay ignored
    before = {number: signal.signal(number, child.forward) for number in heard}
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _before_exec:  # noqa: N801 - a function with its libc looked up before the fork
    """What the child does between fork and exec: no core dumps, and an end with its parent."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def __call__(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != self._parent:  # the parent died before the line above took hold
            os._exit(_SHELL_SIGNAL + signal.SIGKILL)
