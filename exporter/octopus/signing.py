"""
Signing with an access key, by the official SDK's signer.

Source: Huawei Cloud API signing guide, SDK-HMAC-SHA256.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from exporter.octopus.exchange import Grant, Request, fingerprint


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key; `security_token` is "" where it is a permanent one."""

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str = field(default="", repr=False)

    @property
    def ak(self) -> str:
        """The name the SDK's signer reads."""
        return self.access_key

    @property
    def sk(self) -> str:
        """The name the SDK's signer reads."""
        return self.secret_key

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.access_key, self.secret_key, self.security_token)


class _ExactSigner(Signer):  # type: ignore[misc]  # the SDK has no types
    """The SDK's signer, signing the headers it is given and no other."""

    @classmethod
    def _process_header_host(cls, request: SdkRequest) -> None:
        pass


def sign(request: Request, headers: Mapping[str, str], key: AccessKey) -> dict[str, str]:
    """
    Sign a request together with these headers; give them back with Authorization.

    Shape: X-Sdk-Date must be among the headers: the signer would otherwise read the clock.
    """
    signed = dict(headers)
    _ExactSigner(key).sign(
        SdkRequest(
            method=request.method,
            host=request.host,
            resource_path=request.encoded_path,
            query_params=list(request.query),
            header_params=signed,
            body=request.body,
        )
    )
    return signed


def signed_grant(request: Request, key: AccessKey, project_id: str, clock: Callable[[], float]) -> Grant:
    """
    Sign a request for a project.

    Shape: Host is sent as signed, whatever the HTTP library would have made of the URL.
    Units: `clock` gives Unix seconds; a signature more than 15 minutes off is refused.
    """
    headers = {
        "Host": request.host,
        "X-Project-Id": project_id,
        "X-Sdk-Date": datetime.fromtimestamp(clock(), UTC).strftime("%Y%m%dT%H%M%SZ"),
    }
    if key.security_token:
        headers["X-Security-Token"] = key.security_token
    signed = sign(request, headers, key)
    signature = signed["Authorization"].rpartition("Signature=")[2]
    secrets = (key.access_key, key.secret_key, key.security_token)
    return Grant("aksk", signed, key.fingerprint, secrets, signature)
