"""A proxy before a PostgreSQL server that breaks a connection at a chosen message."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

# Of a client's message: its type, its length, and the text of a simple query.
_QUERY = b"Q"
_COMMIT = _QUERY + (11).to_bytes(4, "big") + b"COMMIT\0"


class BreakingProxy:
    """
    Shape: `breaks_at` counts the queries down to the one that breaks, those alone that `counts` lets count;
    0 for none. `is_sent` says whether the server still gets that query: then its answer is dropped.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.breaks_at = 0
        self.counts: Callable[[bytes], bool] = is_query
        self.is_sent = True
        self.broken = 0
        Thread(target=self._accept, daemon=True).start()

    def break_at(self, number: int, *, counts: Callable[[bytes], bool], is_sent: bool) -> None:
        self.counts, self.is_sent, self.breaks_at = counts, is_sent, number

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:  # it is away
                    client.close()
                    continue
                Thread(target=self._questions, args=(client, server), daemon=True).start()
                Thread(target=_pass_on, args=(server, client), daemon=True).start()

    def _questions(self, client: socket.socket, server: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(1 << 20):
                if self.breaks_at and self.counts(data):
                    self.breaks_at -= 1
                    if not self.breaks_at:
                        self._break(client, server, data)
                        return
                server.sendall(data)
        _end(server)

    def _break(self, client: socket.socket, server: socket.socket, query: bytes) -> None:
        self.broken += 1
        _end(client)
        if self.is_sent:
            server.sendall(query)
            # What was asked for happens, though nobody gets the answer. A cut connection would undo it.
            server.shutdown(socket.SHUT_WR)
        else:
            _end(server)


def is_query(data: bytes) -> bool:
    return data.startswith(_QUERY)


def is_commit(data: bytes) -> bool:
    return data == _COMMIT


@contextmanager
def breaking_proxy(server_port: int) -> Iterator[BreakingProxy]:
    proxy = BreakingProxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    with server:
        with suppress(OSError):
            while data := server.recv(1 << 20):
                client.sendall(data)
        _end(client)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
