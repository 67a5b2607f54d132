"""Prometheus exporter for the system jobs of Huawei Cloud Octopus."""

__version__ = "0.1.0"
