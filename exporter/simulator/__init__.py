"""A stand-in for the remote API: IAM and the job list over HTTP, with jobs that live and fail."""

from exporter.simulator.app import RunningSimulator, create_app, serve
from exporter.simulator.profiles import CALM, PROFILE_SETS
from exporter.simulator.quirks import OddRow, Quirks, parse_quirks
from exporter.simulator.settings import DEMO_PROJECT, Credentials, SimulatorSettings

__all__ = [
    "CALM",
    "DEMO_PROJECT",
    "PROFILE_SETS",
    "Credentials",
    "OddRow",
    "Quirks",
    "RunningSimulator",
    "SimulatorSettings",
    "create_app",
    "parse_quirks",
    "serve",
]
