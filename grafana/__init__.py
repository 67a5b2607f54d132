"""
The dashboards as code. All queries are built from the family table, all texts come from the catalogue.

    python -m grafana            writes grafana/dashboards/*.json; a test compares them with this code
    python -m grafana.preview    makes pictures of them

`fleet`, `project`, `resources` and `health` have the content of the dashboards, in terms of `panels` and
`promql`. `builder` and `boards` turn that into Grafana's model.
"""
