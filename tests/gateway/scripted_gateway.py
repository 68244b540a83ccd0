"""The gateway with the scripted engine in place of the one behind a link, or of a server of another make."""

import sys

from strongroom.gateway.__main__ import main
from strongroom.ports.processes import GatewaySetup
from strongroom.wiring import table
from strongroom.wiring.process import run

for scheme in ("unix", "http"):
    table.TABLE["completions"][scheme] = "tests.gateway.scripted:Scripted"  # type: ignore[index]
sys.exit(run(GatewaySetup, main))
