"""The cost of the rules for a Prometheus that watches many targets."""
