"""Builds what a release consists of: `python -m release --help`. How to publish it: docs/releasing.md."""
