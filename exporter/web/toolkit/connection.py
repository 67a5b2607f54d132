"""A TLS connection to us, and the context that opens it."""

from __future__ import annotations

import ssl
from typing import Any

import structlog

from exporter.web.toolkit.client_policy import ClientPolicy


class ServerConnection(ssl.SSLObject):
    """
    A connection that tells a client why it is refused, and is held to its context's policy.

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
    structlog.get_logger().debug("TLS handshake refused", reason=error.reason or str(error))


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
