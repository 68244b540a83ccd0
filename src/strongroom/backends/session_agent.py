"""Sessions held by a small process of their own, as ssh-agent does: the seed lives in its memory and nowhere else.

The agent listens on an abstract Unix socket (Linux), so nothing is left in the file system. Both ends check the other's
user id (SO_PEERCRED). The agent is undumpable, so another process of the same user can't attach to it or read its
memory; root can, and so can whoever takes the same user's identity and simply asks: that is what a session is for.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from strongroom.core.errors import StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.ports.sessions import Session

_PR_SET_DUMPABLE = 4
_PATIENCE = 5.0  # seconds that either end waits for the other
_MOST = 4096  # bytes of a message


class AgentSessions:
    """The `Sessions` port for the home at `home`."""

    def __init__(self, home: Path) -> None:
        """Name the socket after the user and the home's place."""
        self._address = _address(home)

    def start(self, session: Session) -> None:
        """Start an agent that holds `session` until it expires.

        Raises:
            StoreUnavailable: the agent did not come up.

        """
        self.end()
        message = {"name": session.name, "seed": session.seed.reveal().hex(), "expires": session.expires}
        agent = subprocess.run(  # noqa: S603 - our own module, our own interpreter
            [sys.executable, "-m", "strongroom.backends.session_agent", self._address],
            input=json.dumps(message).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            check=False,
        )
        if agent.returncode:
            raise StoreUnavailable("the session agent did not start", where="access login")

    def current(self) -> Session | None:
        """Ask the agent for the session."""
        answer = _ask(self._address, b"get")
        if not answer:
            return None
        held = json.loads(answer)
        return Session(name=held["name"], seed=Secret(bytes.fromhex(held["seed"])), expires=held["expires"])

    def end(self) -> bool:
        """Tell the agent to forget and end."""
        return _ask(self._address, b"end") is not None


def _address(home: Path) -> str:
    place = f"{os.getuid()}\n{home.resolve()}".encode()
    return "strongroom-session-" + hashlib.sha256(place).hexdigest()[:32]


def _ask(address: str, word: bytes) -> bytes | None:
    """Return the agent's answer, or None if no agent of this user answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(_PATIENCE)
        try:
            line.connect("\0" + address)
            if _peer(line) != os.getuid():
                return None
            line.sendall(word)
            return line.recv(_MOST)
        except OSError:
            return None


def _peer(line: socket.socket) -> int:
    """Return the user id of the process at the other end."""
    _, uid, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid


def _serve(address: str) -> None:
    """Hold one session, given on standard input, until it expires or is told to end.

    The caller waits until the door is open; then this process forks, and the child stays.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    message = sys.stdin.buffer.read()
    expires = float(json.loads(message)["expires"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind("\0" + address)
        door.listen(8)
        if os.fork():
            os._exit(0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        while (left := expires - time.time()) > 0:  # noqa: TID251 - the agent is the clock's last reader
            door.settimeout(left)
            try:
                line, _ = door.accept()
            except TimeoutError:
                return
            if not _answer(line, message):
                return


def _answer(line: socket.socket, message: bytes) -> bool:
    """Answer one caller; return whether to go on."""
    with line:
        line.settimeout(_PATIENCE)
        try:
            if _peer(line) != os.getuid():
                return True
            word = line.recv(3)
            if word == b"get" and time.time() < json.loads(message)["expires"]:  # noqa: TID251 - a sleeping machine
                line.sendall(message)
        except OSError:  # a caller who went away is no reason to end
            return True
        return word != b"end"


if __name__ == "__main__":
    _serve(sys.argv[1])
