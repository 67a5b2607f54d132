"""The status page and `/api/v1/status`: one model of the status, and how it is shown."""

from pathlib import Path

# The files beside the page: style, script and icon.
STATIC = Path(__file__).parent / "static"
