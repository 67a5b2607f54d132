"""The status page and `/api/v1/status`: one model of the status, and how it is shown."""
