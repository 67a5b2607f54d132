"""History for Prometheus: what the live counters leave out, as OpenMetrics files."""
