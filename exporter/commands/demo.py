"""`demo` and `simulate`: the built-in simulator, with an exporter that polls it or alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import ClientError, ClientSession

from exporter import __version__
from exporter.commands.choices import HOST
from exporter.commands.output import print_line
from exporter.config import Config
from exporter.log import Log
from exporter.masking import Secrets
from exporter.service import handled_signals, run_exporter
from exporter.simulator import SimulatorSettings, serve

_SCRAPE_SECONDS = 5.0


async def demo(settings: SimulatorSettings, port: int) -> None:
    """Run a simulator and its exporter until stopped; nothing is left behind. Raises: as run_exporter."""
    simulator = await serve(settings, HOST)
    # `listening` cannot wait, so its task is kept here and cancelled at the end.
    scrapers: list[asyncio.Task[None]] = []

    def listening(urls: tuple[str, ...]) -> None:
        print_line(
            f"""
octopus-exporter {__version__}: a demo against simulated jobs, {settings.pace:g} times as fast as real ones.

  status page   {urls[0]}/
  metrics       {urls[0]}/metrics
  simulator     {simulator.url}/

Try:  curl -s {urls[0]}/metrics | grep octopus_jobs
      watch octopus_job_failures_total and octopus_job_running_duration_seconds grow.
Stop: Ctrl-C; nothing is left behind.
"""
        )
        scrapers.append(asyncio.create_task(_scrape(urls[0])))

    try:
        config = demo_config(settings, simulator.url, port)
        await run_exporter(config, lambda: config, listening)
    finally:
        for scraper in scrapers:
            scraper.cancel()
        await simulator.close()


async def _scrape(url: str) -> None:
    """Scrape the demo as Prometheus would: without scrapes its new counters show 0 for five minutes."""
    async with ClientSession() as session:
        while True:
            with suppress(ClientError, TimeoutError):
                async with session.get(f"{url}/metrics") as answer:
                    await answer.read()
            await asyncio.sleep(_SCRAPE_SECONDS)


def demo_config(settings: SimulatorSettings, simulator_url: str, port: int) -> Config:
    """Return a configuration for a simulator: a ledger in memory, frequent polls, a high request rate."""
    account = settings.credentials
    return Config.model_validate(
        {
            "projects": [
                {
                    "id": project,
                    "name": "demo" if len(settings.projects) == 1 else f"demo-{index}",
                    "endpoint": simulator_url,
                    "workspaces": list(settings.workspaces),
                }
                for index, project in enumerate(settings.projects)
            ],
            "credentials": {
                "default": {
                    "type": "password",
                    "domain": account.domain,
                    "user": account.user,
                    "password": account.password,
                    "iam_endpoint": simulator_url,
                }
            },
            # The simulator is asked more often than a real API would allow.
            "poll": {"interval": "5s", "requests_per_second": 200, "overlap": "1m"},
            # In memory, so that nothing is left behind.
            "ledger": {"url": "sqlite://"},
            # Longer than the interval of the demo's own scrapes and of `make prometheus`.
            "metrics": {"new_series_hold": "10s"},
            "web": {"listen": [f"{HOST}:{port}"], "enable_lifecycle": False},
            # Lines of the log would push the addresses out of sight.
            "log": {"level": "warning"},
        }
    )


async def simulate(settings: SimulatorSettings, host: str, port: int) -> None:
    """Run a simulator until stopped. Raises: StartError; ConfigError; ForcedStop."""
    stop = asyncio.Event()
    with Log(Secrets()) as log, handled_signals(stop):
        log.configure("info", "logfmt")
        simulator = await serve(settings, host, port)
        try:
            print_line(f"simulator: {simulator.url}")
            await stop.wait()
        finally:
            await simulator.close()
