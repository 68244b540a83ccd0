"""python -m strongroom.gateway: reads one line of JSON, says on which port it listens, and serves."""

from __future__ import annotations

import sys

import uvloop

from strongroom.core.errors import StrongroomError
from strongroom.core.log import configure, log
from strongroom.gateway.server import serve
from strongroom.gateway.setup import read_setup


def main() -> int:
    """Run the gateway; return its exit status."""
    configure("warning")
    try:
        setup = read_setup(sys.stdin.fileno())
        configure(setup.log)
        uvloop.run(serve(setup))
    except StrongroomError as error:
        log.error("the gateway can't start", code=error.code, where=error.where)
        return error.exit_status
    except OSError as error:
        log.error("the gateway can't listen", reason=error.strerror or "")
        return 7
    return 0


if __name__ == "__main__":
    sys.exit(main())
