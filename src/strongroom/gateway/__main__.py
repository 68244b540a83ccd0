"""``python -m strongroom.gateway``: the gateway's process. Started by `strongroom up`."""

from __future__ import annotations

import sys

import uvloop

from strongroom.core.log import configure
from strongroom.gateway.server import serve
from strongroom.ports.processes import GatewaySetup
from strongroom.wiring.process import run


def main(setup: GatewaySetup) -> None:
    """Serve until told to end."""
    configure(setup.log)
    uvloop.run(serve(setup))


if __name__ == "__main__":
    sys.exit(run(GatewaySetup, main))
