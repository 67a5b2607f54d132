"""What the rules cost a Prometheus that watches many targets."""
