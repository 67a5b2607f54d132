"""A TLS connection to us, and the context that opens it."""

from __future__ import annotations

import ssl
from typing import Any

import structlog

from exporter.web.toolkit.client_policy import ClientPolicy

_SENTENCE = b"This port speaks HTTPS only; the request came over plain HTTP.\n"
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SENTENCE), _SENTENCE)
)


class ServerConnection(ssl.SSLObject):
    """
    A connection that tells a client why it is refused, and is held to its context's policy.

    A client that speaks plain HTTP is told so in plain HTTP.

    asyncio drops a connection whose handshake fails before OpenSSL's alert has been sent, and all the client
    could say would be that it ended. So the failure is told as a wait for more: what there is to send is sent
    then, and what comes is thrown away until the client, or asyncio's time limit for handshakes, ends it.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    _failed = False

    def do_handshake(self) -> None:
        if self._failed:
            self.incoming.read()
            raise ssl.SSLWantReadError
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            _log(error)
            # OpenSSL has taken the first five bytes, and may have an alert for the client, which reads none.
            if b" HTTP/1." in self.incoming.read():
                self.outgoing.read()
                self.outgoing.write(_PLAIN_ANSWER)
            if not self.outgoing.pending:
                raise
            self._failed = True
            raise ssl.SSLWantReadError from error
        self._check_policy()

    def _check_policy(self) -> None:
        """Hold who has shaken hands to the policy. OpenSSL knows nothing of it, and has no alert to send."""
        try:
            if isinstance(self.context, ServerContext):
                self.context.policy.check(self.getpeercert(), resumed=bool(self.session_reused))
        except ssl.SSLError as error:
            _log(error)
            raise


def _log(error: ssl.SSLError) -> None:
    # Only an error of OpenSSL's has a reason; one of the policy's has none, not even an empty one.
    structlog.get_logger().debug("TLS handshake refused", reason=getattr(error, "reason", None) or str(error))


class ServerContext(ssl.SSLContext):
    """A server's context; its connections are held to `policy`."""

    policy: ClientPolicy

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ServerConnection:
        connection = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(connection, ServerConnection)  # noqa: S101 - sslobject_class says so
        connection.incoming, connection.outgoing = incoming, outgoing
        return connection
