"""
Signing a request with an access key: SDK-HMAC-SHA256.

Source: Huawei Cloud API signing guide. Tests compare with its published signatures and with the official SDK.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

from exporter.octopus.messages import Request, RequestAuth, fingerprint

ALGORITHM = "SDK-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key; `security_token` is "" for a permanent one."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str = field(default="", repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.access_key, self.secret_key, self.security_token)


def sign(request: Request, headers: Mapping[str, str], key: AccessKey) -> str:
    """
    Sign a request with these headers; return the value of its Authorization header.

    Shape: all headers are signed, and X-Sdk-Date (`20060102T150405Z`, UTC) must be among them.
    """
    # The server signs what it received, and HTTP leaves the case of names and outer blanks open.
    values = {name.lower(): value.strip() for name, value in headers.items()}
    names = ";".join(sorted(values))
    path = quote(request.path, safe="/~")
    canonical_request = "\n".join(
        (
            request.method,
            # The signing guide ends every canonical path with a slash, whatever is sent.
            path if path.endswith("/") else f"{path}/",
            request.encoded_query,
            *(f"{name}:{values[name]}" for name in sorted(values)),
            "",
            names,
            sha256(request.body).hexdigest(),
        )
    )
    digest = sha256(canonical_request.encode()).hexdigest()
    text = f"{ALGORITHM}\n{values['x-sdk-date']}\n{digest}"
    signature = hmac.new(key.secret_key.encode(), text.encode(), sha256).hexdigest()
    return f"{ALGORITHM} Access={key.access_key}, SignedHeaders={names}, Signature={signature}"


def sign_request(
    request: Request, key: AccessKey, project_id: str, clock: Callable[[], float]
) -> RequestAuth:
    """Sign a request. Units: `clock` in Unix seconds; the server refuses a signature over 15 minutes off."""
    headers = {
        # Sent explicitly: the HTTP library could write it another way than it was signed.
        "Host": request.host,
        "X-Project-Id": project_id,
        "X-Sdk-Date": datetime.fromtimestamp(clock(), UTC).strftime("%Y%m%dT%H%M%SZ"),
    }
    if key.security_token:
        headers["X-Security-Token"] = key.security_token
    authorization = sign(request, headers, key)
    secrets = (key.access_key, key.secret_key, key.security_token)
    signature = authorization.rpartition("Signature=")[2]
    return RequestAuth(
        "aksk", {**headers, "Authorization": authorization}, key.fingerprint, secrets, signature
    )
