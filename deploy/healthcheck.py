"""
Ask an exporter on this machine whether it is healthy: exit 0 if it is, 1 if not.

The port is OCTOPUS_EXPORTER_PORT, or 10877. Any Python runs this; nothing of the exporter is needed, and no
proxy is in the way. It works whatever the web configuration asks of others: TLS is found out, the certificate
of one's own machine is not checked, and an exporter that asks for a password, for a certificate or for
patience has shown that it answers.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

HOST = "127.0.0.1"
# Unauthorized, and too many requests: both are the exporter's own answers.
HEALTHY = (200, 401, 429)
# What a port that speaks TLS answers to plain HTTP.
SPEAKS_TLS = 400


def main() -> int:
    port = os.environ.get("OCTOPUS_EXPORTER_PORT", "10877")
    try:
        status, said = ask(int(port))
    except (OSError, HTTPException, ValueError) as error:
        sys.stdout.write(f"port {port}: {error}\n")
        return 1
    sys.stdout.write(said)
    return 0 if status in HEALTHY else 1


def ask(port: int) -> tuple[int, str]:
    """Ask over HTTP and, where that is not understood, over TLS. Raises: OSError, HTTPException."""
    try:
        status, said = answer(HTTPConnection(HOST, port, timeout=2))
    except ConnectionRefusedError:
        raise
    except (ConnectionError, HTTPException):
        status, said = SPEAKS_TLS, ""
    if status != SPEAKS_TLS:
        return status, said
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return answer(HTTPSConnection(HOST, port, timeout=2, context=context))
    except ssl.SSLError as error:
        # Only who has taken the handshake up says why it ends it, such as for want of a certificate.
        if "ALERT" not in (error.reason or ""):
            raise
        return 401, f"{error.reason}\n"


def answer(connection: HTTPConnection) -> tuple[int, str]:
    try:
        connection.request("GET", "/-/healthy")
        found = connection.getresponse()
        return found.status, found.read(200).decode(errors="replace")
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
