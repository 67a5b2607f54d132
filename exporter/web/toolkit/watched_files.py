"""
The files a web configuration was read from.

They are compared by what they hold, not by their times: a certificate is put in place by a rename, through a
symbolic link or over a network, and neither its time nor its size need change.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

_LARGEST_BYTES = 1_048_576


class Sources:
    """
    Reads files, and remembers of each what it held.

    Nothing but a digest is kept: some of the files are private keys.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, str] = {}

    def read(self, path: Path) -> bytes:
        """Read a file. Raises: OSError, with a `strerror`."""
        try:
            content = _read(path)
        except OSError as error:
            self._seen[path] = f"error {error.errno}"
            raise
        self._seen[path] = hashlib.sha256(content).hexdigest()
        return content

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self._seen)

    @property
    def fingerprint(self) -> tuple[tuple[Path, str], ...]:
        """What the files held when they were read."""
        return tuple(sorted(self._seen.items()))

    def fingerprint_now(self) -> tuple[tuple[Path, str], ...]:
        """Give what the same files hold now."""
        now = Sources()
        for path in self._seen:
            try:
                now.read(path)
            except OSError:
                continue
        return now.fingerprint


def _read(path: Path) -> bytes:
    # What is no regular file, such as a pipe, may never end, or wait for ever.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "Not a regular file")
    with path.open("rb") as stream:
        content = stream.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise OSError(0, "Larger than 1 MiB")
    return content
