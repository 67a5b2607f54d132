"""
Ask an exporter on this machine whether it is healthy: exit 0 if it is, 1 if not.

The port is OCTOPUS_EXPORTER_PORT, or 10877. Any Python runs this; nothing of the exporter is needed, and no
proxy is in the way.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    port = os.environ.get("OCTOPUS_EXPORTER_PORT", "10877")
    try:
        connection = HTTPConnection("127.0.0.1", int(port), timeout=3)
        connection.request("GET", "/-/healthy")
        answer = connection.getresponse()
        sys.stdout.write(answer.read(200).decode(errors="replace"))
    except (OSError, HTTPException, ValueError) as error:
        sys.stdout.write(f"port {port}: {error}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
