"""
Pictures of the dashboards, drawn from what a Prometheus answers to their own queries, in their own grid.

They are previews: they show what is on a dashboard and how it lies, not what Grafana makes of it.

    python -m grafana.preview --prometheus http://127.0.0.1:9090 --output docs/images
    python -m grafana.preview.history --output DIR      a week of simulated jobs, to have something to show
"""
