"""Where a region's API and IAM are."""

from __future__ import annotations

import ipaddress
import re

GLOBAL_IAM_ENDPOINT = "https://iam.myhuaweicloud.com"
ENDPOINT = "a URL such as https://host or http://host:port, without path, query and user"

# The regions that have an IAM of their own; a token of the global one is good in every region.
# Source: huaweicloudsdkcore 3.1.219, auth/endpoint.py; a test holds this list to the installed SDK.
# fmt: off
IAM_REGIONS = frozenset(
    {
        "ae-ad-1", "af-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3",
        "ap-southeast-4", "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5", "cn-north-1",
        "cn-north-2", "cn-north-4", "cn-north-9", "cn-north-12", "cn-south-1", "cn-south-2",
        "cn-southwest-2", "eu-west-0", "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1",
        "na-mexico-1", "ru-moscow-1", "sa-brazil-1", "tr-west-1",
    }
)
# fmt: on

_URL = re.compile(
    r"https?://(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:/]+))(?::(?P<port>[1-9][0-9]{0,4}))?/?",
    re.IGNORECASE,
)
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def octopus_endpoint(region: str) -> str:
    """Give the API endpoint of a region, known or not."""
    return f"https://octopus.{region}.myhuaweicloud.com"


def iam_endpoint(region: str) -> str:
    """Give the IAM endpoint of a region: the global one where the region has none, or is not given."""
    return f"https://iam.{region}.myhuaweicloud.com" if region in IAM_REGIONS else GLOBAL_IAM_ENDPOINT


def parse_endpoint(text: str) -> str:
    """
    Read an http or https URL of nothing but host and port; a slash at its end is dropped.

    Raises: ValueError.
    """
    match = _URL.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65_535:
        raise ValueError("not an http or https URL of host and port")
    if not is_host(match["ipv6"] or match["name"], in_brackets=match["ipv6"] is not None):
        raise ValueError("no host")
    return text.removesuffix("/").lower()


def is_host(text: str, *, in_brackets: bool) -> bool:
    """Tell whether a text is an IPv6 address, which stands in brackets, or else a name or an IPv4 address."""
    if not in_brackets:
        return _HOST_NAME.fullmatch(text) is not None
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
