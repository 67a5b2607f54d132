"""
The live target: the exporter's own exposition of all targets, which goes on with the values of `world`.

Usage: python -m benchmarks.rule_cost.server TARGETS PORT. Runs until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

from prometheus_client import CollectorRegistry

from benchmarks.rule_cost import world
from exporter import __version__
from exporter.config import ListenAddress
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.web.app import Exporter, create_app
from exporter.web.server import serve


async def run(targets: int, port: int) -> None:
    instruments = Instruments(CollectorRegistry(), __version__)
    instruments.show_expiries(lambda: {"default": time.time() + 86_400})
    instruments.reload_result(ok=True, timestamp_seconds=time.time() - 86_400)
    publisher = Publisher(instruments)
    for number in range(targets):
        instruments.add_project(world.project(number))
        instruments.clock_skew(world.project(number), 0.1)
        instruments.request(world.project(number), "429", 0.1)
    rendering = asyncio.create_task(publisher.run())
    await serve(create_app(cast("Exporter", None), publisher), [ListenAddress("127.0.0.1", port)])
    while not rendering.done():
        now = time.time()
        for snapshot in world.snapshots(targets, now):
            publisher.publish(snapshot)
            for _ in range(world.REQUESTS_A_POLL):
                instruments.request(snapshot.target.project, "200", 0.1)
        await asyncio.sleep(world.POLL_SECONDS - now % world.POLL_SECONDS)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), int(sys.argv[2])))
