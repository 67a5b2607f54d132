"""
Pictures of the dashboards, in Grafana's grid, with the results of their own queries.

A headless Chromium draws them with uPlot, the library behind Grafana's graphs. They show the content and the
layout of a dashboard; Grafana's own look differs a little.

    python -m grafana.preview --prometheus http://127.0.0.1:9090 --output docs/images
    python -m grafana.preview.stage --output docs/images     the same over a simulated week with an alert
"""
