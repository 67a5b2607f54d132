"""
How many clients there may be at once.

A client that says nothing, or half a request, costs a file descriptor for as long as it likes. Without
descriptors nobody else is let in, and no new connection to the API is opened.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

# As many as Prometheus lets in by itself (--web.max-connections).
_MOST = 512


def room() -> int:
    """Give how many connections this process may keep open: at most half of the files it may have."""
    files, _ = getrlimit(RLIMIT_NOFILE)
    return _MOST if files == RLIM_INFINITY else min(_MOST, files // 2)


class Crowd:
    """
    Keeps at most so many connections open: where one more comes, the one that was silent longest goes.

    Who asks is answered before its turn could come, however many others wait for nothing.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_silence: OrderedDict[asyncio.Transport, None] = OrderedDict()

    def heard(self, transport: asyncio.Transport) -> None:
        """A client has connected, or has said something."""
        self._by_silence[transport] = None
        self._by_silence.move_to_end(transport)
        if len(self._by_silence) > self._most:
            silent, _ = self._by_silence.popitem(last=False)
            silent.abort()

    def left(self, transport: asyncio.Transport) -> None:
        self._by_silence.pop(transport, None)
