"""
The dashboards, as code: every query is built from the family table, every text comes from the catalogue.

    python -m grafana            writes grafana/dashboards/*.json; a test holds them to this code
    python -m grafana.preview    draws pictures of them

`fleet`, `project` and `health` say what is on a dashboard, `panels` what a panel is; `drawing` and `frame`
turn that into Grafana's own model.
"""
