"""All dashboards in all languages, as the files that are committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard, VariableHide

from grafana.fleet import FLEET
from grafana.frame import frame, uid
from grafana.health import EXPORTER
from grafana.places import Places
from grafana.project import PROJECT
from grafana.texts import LANGUAGES, texts

DASHBOARDS = Path(__file__).parent / "dashboards"
BOARDS = (FLEET, PROJECT, EXPORTER)

# The default of poll.interval: no graph asks for finer steps than there are values.
POLL_INTERVAL = "30s"


def files(interval: str = POLL_INTERVAL, places: Places | None = None) -> dict[str, str]:
    """Give each dashboard's JSON by its file's name."""
    led = places or Places()
    return {
        f"{uid(board, language)}.json": _json(frame(board, texts(board.name, language), interval, led))
        for board in BOARDS
        for language in LANGUAGES
    }


def _json(dashboard: Dashboard) -> str:
    shown: dict[str, Any] = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    # The SDK knows one placement only, behind a menu: links and annotations belong where they are seen.
    for one in (*shown["links"], *shown["annotations"]["list"]):
        del one["placement"]
    for variable in shown["templating"]["list"]:
        _complete(variable)
    return json.dumps(shown, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _complete(variable: dict[str, Any]) -> None:
    """Add what the SDK's variables leave out."""
    if variable["type"] == "textbox":
        # The present value too: Grafana shows an empty box where only the default is given.
        variable["current"] = {"text": variable["query"], "value": variable["query"]}
    if variable.get("hide") == VariableHide.HIDE_VARIABLE:
        # It follows from the others: an address that has it would hold it fast.
        variable["skipUrlSync"] = True
