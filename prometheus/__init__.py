"""Rules and alerts for Prometheus, and what makes them."""
