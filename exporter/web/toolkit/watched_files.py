"""
The files that a web configuration was read from.

They are compared by content, not by time: a new certificate may come by a rename, through a symbolic link or
over a network, and then neither time nor size has to change.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

_LARGEST_BYTES = 1_048_576


class WatchedFiles:
    """Reads files, and keeps a digest of each, but no content: some of the files are private keys."""

    def __init__(self) -> None:
        # What the files contained when they were read.
        self.fingerprint: dict[Path, str] = {}

    def read(self, path: Path) -> bytes:
        """Read a file. Raises: OSError, with a `strerror`."""
        try:
            # Reading a pipe or a device could block for ever.
            if not stat.S_ISREG(path.stat().st_mode):
                raise OSError(0, "Not a regular file")
            with path.open("rb") as stream:
                content = stream.read(_LARGEST_BYTES + 1)
            if len(content) > _LARGEST_BYTES:
                raise OSError(0, "Larger than 1 MiB")
        except OSError as error:
            self.fingerprint[path] = f"error {error.errno}"
            raise
        self.fingerprint[path] = hashlib.sha256(content).hexdigest()
        return content

    def fingerprint_now(self) -> dict[Path, str]:
        """Read the same files again, and give what they contain now."""
        now = WatchedFiles()
        for path in self.fingerprint:
            try:
                now.read(path)
            except OSError:
                continue
        return now.fingerprint
