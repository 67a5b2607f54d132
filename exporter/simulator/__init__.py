"""A stand-in for the remote API: IAM and the job list over HTTP, with jobs that live and fail."""

from exporter.simulator.app import RunningSimulator, create_app, serve
from exporter.simulator.oddities import OddRow
from exporter.simulator.profiles import CALM, PROFILE_SETS
from exporter.simulator.settings import DEMO_PROJECT, DemoCredentials, Quirks, SimulatorSettings, parse_quirks

__all__ = [
    "CALM",
    "DEMO_PROJECT",
    "PROFILE_SETS",
    "DemoCredentials",
    "OddRow",
    "Quirks",
    "RunningSimulator",
    "SimulatorSettings",
    "create_app",
    "parse_quirks",
    "serve",
]
