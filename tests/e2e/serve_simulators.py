"""
Serve simulators with any of their settings, also those the command line does not have.

Usage: python -m tests.e2e.serve_simulators PORT SETTINGS, the settings as a JSON list, one simulator each on
ports from PORT on (0: free ones). Prints a line `simulators: URL URL …`.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from exporter.simulator import SimulatorSettings, serve


async def main(port: int, settings: list[SimulatorSettings]) -> None:
    """Serve until the process is ended."""
    served = [await serve(one, port=port and port + number) for number, one in enumerate(settings)]
    sys.stdout.write(f"simulators: {' '.join(one.url for one in served)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=list[SimulatorSettings])))
