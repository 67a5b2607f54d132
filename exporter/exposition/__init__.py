"""What Prometheus reads: the families, their samples and the rendered bytes."""
