"""What the exporter costs, beside a floor and beside the exporter most people would write."""
