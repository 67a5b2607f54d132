"""A certificate authority for tests, and the certificates that it signs, as files in a folder."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain, and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority whose own certificate is in a file."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str) -> Pair:
        """Sign a certificate. It replaces an earlier one of the same name."""
        leaf = self._ca.issue_cert(*identities)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        pair.key.write_bytes(leaf.private_key_pem.bytes())
        return pair

    def client(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Make the context of a client that trusts this authority, and presents this certificate."""
        context = ssl.create_default_context(cafile=self.file)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context
