from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from huaweicloudsdkcore.auth import endpoint as sdk_endpoints
from huaweicloudsdkcore.auth.internal import MetadataAccessor

from exporter.errors import ApiTimeout, AuthError, CredentialsRefused
from exporter.octopus.auth.chain import ChainCredentials, FoundKey
from exporter.octopus.auth.credentials import Credentials
from exporter.octopus.auth.signing import AccessKey
from tests.octopus_fakes import DAY, SCOPE, Api, Clock, grant, iso


class Finder:
    """Stands for the SDK's chain, the network of which is not to be had in a test."""

    def __init__(self, clock: Clock, life_seconds: float | None = DAY) -> None:
        self.clock, self.life_seconds = clock, life_seconds
        self.calls = 0
        self.key = AccessKey("AK", "SK", "ST")
        self.failure: Exception | None = None

    def __call__(self, region: str = "") -> FoundKey:
        self.calls += 1
        if self.failure:
            raise self.failure
        expires_at = None if self.life_seconds is None else self.clock.now + self.life_seconds
        return FoundKey(self.key, expires_at)


def chain(finder: Finder, **options: Any) -> ChainCredentials:
    return ChainCredentials(name="default", find=finder, clock=finder.clock, **options)


async def access_key(credentials: Credentials) -> str:
    authorization = (await grant(credentials)).headers["Authorization"]
    return authorization.partition("Access=")[2].partition(",")[0]


async def test_a_temporary_key_is_looked_for_once_and_renewed_in_time() -> None:
    finder = Finder(Clock())
    credentials = chain(finder)
    assert await asyncio.gather(*(access_key(credentials) for _ in range(50))) == ["AK"] * 50
    assert finder.calls == 1
    finder.key = AccessKey("AK2", "SK2", "ST2")
    finder.clock.now += 0.8 * DAY
    assert await access_key(credentials) == "AK2"
    assert finder.calls == 2


async def test_a_permanent_key_is_looked_for_again_after_a_minute() -> None:
    finder = Finder(Clock(), None)
    credentials = chain(finder)
    await grant(credentials)
    finder.key = AccessKey("AK2", "SK2")
    assert await access_key(credentials) == "AK"
    finder.clock.now += 60
    assert await access_key(credentials) == "AK2"


async def test_a_temporary_key_that_turns_permanent_ends_no_more() -> None:
    finder = Finder(Clock())
    credentials = chain(finder)
    await grant(credentials)
    assert credentials.expires_at(SCOPE) == finder.clock.now + DAY
    finder.life_seconds, finder.key = None, AccessKey("AK2", "SK2")
    finder.clock.now += 0.8 * DAY
    assert await access_key(credentials) == "AK2"
    assert credentials.expires_at(SCOPE) is None


@pytest.mark.parametrize("life_seconds", [-8 * 3600.0, 0.0, 299.0])
async def test_an_end_that_has_passed_is_not_believed(life_seconds: float) -> None:
    finder = Finder(Clock(), life_seconds)
    credentials = chain(finder)
    for _ in range(60):
        assert await access_key(credentials) == "AK"
        finder.clock.now += 1
    assert (finder.calls, credentials.expires_at(SCOPE)) == (1, None)


async def test_no_permission_does_not_look_for_another_key() -> None:
    finder = Finder(Clock())
    credentials = chain(finder)
    first = await grant(credentials)
    finder.clock.now += 3600
    assert not await credentials.refresh(first, SCOPE, may_renew=True)
    assert finder.calls == 1


async def test_a_rejected_key_is_looked_for_at_once() -> None:
    finder = Finder(Clock())
    credentials = chain(finder)
    first = await grant(credentials)
    assert not await credentials.renew(first, SCOPE)
    finder.key = AccessKey("AK2", "SK2", "ST2")
    assert await credentials.renew(first, SCOPE)
    assert await access_key(credentials) == "AK2"


async def test_a_refused_key_of_the_chain_cools_down() -> None:
    finder = Finder(Clock())
    credentials = chain(finder)
    with pytest.raises(CredentialsRefused, match="no good"):
        async with credentials.authorise(SCOPE):
            raise CredentialsRefused("no good")
    with pytest.raises(CredentialsRefused, match="not tried again before"):
        await grant(credentials)


async def test_the_old_key_serves_on_while_the_chain_fails() -> None:
    finder = Finder(Clock())
    credentials = chain(finder)
    await grant(credentials)
    finder.failure = OSError("metadata service away")
    finder.clock.now += 0.9 * DAY
    assert await access_key(credentials) == "AK"
    finder.clock.now += DAY
    with pytest.raises(AuthError, match="the provider chain found no key: metadata service away"):
        await grant(credentials)


async def test_a_chain_that_hangs_is_a_timeout() -> None:
    released = threading.Event()

    class Hanging(Finder):
        def __call__(self, region: str = "") -> FoundKey:
            released.wait(30)
            return super().__call__()

    try:
        with pytest.raises(ApiTimeout, match=r"nothing within 0\.05 s"):
            await grant(chain(Hanging(Clock()), timeout_seconds=0.05))
    finally:
        released.set()


@pytest.fixture
def no_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing for the SDK to find, and the metadata service of the cloud replaced by a closed port."""
    for name in list(os.environ):
        if name.startswith(("HUAWEICLOUD_", "HC_CONTAINER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HUAWEICLOUD_SDK_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setattr(MetadataAccessor, "_METADATA_ENDPOINT", "http://127.0.0.1:9")
    # A server of this process answers later than in three seconds, where the machine is busy.
    monkeypatch.setattr(MetadataAccessor, "_DEFAULT_TIME_OUT", (60, 60))
    return monkeypatch


def real_chain(clock: Clock, region: str = "") -> ChainCredentials:
    return ChainCredentials(name="default", region=region, clock=clock)


async def test_a_key_of_the_environment_is_found(no_places: pytest.MonkeyPatch) -> None:
    no_places.setenv("HUAWEICLOUD_SDK_AK", "ENVAK")
    no_places.setenv("HUAWEICLOUD_SDK_SK", "ENVSK")
    credentials = real_chain(Clock())
    assert await access_key(credentials) == "ENVAK"
    assert credentials.expires_at(SCOPE) is None


async def test_a_key_of_the_profile_is_found(no_places: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[basic]\nak = FILEAK\nsk = FILESK\n")
    assert await access_key(real_chain(Clock())) == "FILEAK"


async def test_no_key_anywhere_is_one_line(no_places: pytest.MonkeyPatch) -> None:
    with pytest.raises(AuthError, match="the provider chain found no key") as caught:
        await grant(real_chain(Clock()))
    assert len(str(caught.value).splitlines()) == 1


def temporary_key(clock: Clock) -> dict[str, str]:
    return {"access": "TAK", "secret": "TSK", "securitytoken": "TST", "expires_at": iso(clock.now + DAY)}


def now_clock() -> Clock:
    """The SDK reads the real clock."""
    return Clock(float(int(time.time())))


async def test_a_key_of_the_ecs_agency_is_found_and_its_end_told(no_places: pytest.MonkeyPatch) -> None:
    clock = now_clock()

    async def metadata(request: web.Request) -> web.StreamResponse:
        if request.path == "/meta-data/latest/api/token":
            return web.Response(text="metadata-token")
        return web.json_response({"credential": temporary_key(clock)})

    async with Api([metadata]).server() as server:
        no_places.setattr(MetadataAccessor, "_METADATA_ENDPOINT", str(server.make_url("/")).rstrip("/"))
        credentials = real_chain(clock)
        found = await grant(credentials)
    assert "Access=TAK," in found.headers["Authorization"]
    assert found.headers["X-Security-Token"] == "TST"
    assert credentials.expires_at(SCOPE) == clock.now + DAY


async def test_a_key_of_the_pod_identity_is_found_where_there_is_no_ecs(
    no_places: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = now_clock()
    (tmp_path / "pod-token").write_text("pod")

    async def agent(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "pod"
        return web.json_response({"credential": temporary_key(clock)})

    async with Api([agent]).server() as server:
        no_places.setenv("HC_CONTAINER_CREDENTIALS_FULL_URI", str(server.make_url("/v1/credentials")))
        no_places.setenv("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "pod-token"))
        assert await access_key(real_chain(clock)) == "TAK"


async def test_a_key_for_an_oidc_token_is_found_and_the_token_file_read_again(
    no_places: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, seen = now_clock(), list[str]()
    token_file = tmp_path / "oidc-token"
    token_file.write_text("first")

    async def sts(request: web.Request) -> web.StreamResponse:
        seen.append((await request.json())["id_token"])
        return web.json_response({"credentials": temporary_key(clock)})

    async with Api([sts]).server() as server:
        no_places.setenv("HUAWEICLOUD_SDK_STS_ENDPOINT", str(server.make_url("/")).rstrip("/"))
        no_places.setenv("HUAWEICLOUD_OIDC_PROVIDER_URN", "iam::provider")
        no_places.setenv("HUAWEICLOUD_OIDC_AGENCY_URN", "iam::agency")
        no_places.setenv("HUAWEICLOUD_OIDC_TOKEN_FILE", str(token_file))
        credentials = real_chain(clock)
        first = await grant(credentials)
        token_file.write_text("second")
        await credentials.renew(first, SCOPE)
    assert seen == ["first", "second"]


@pytest.mark.parametrize(
    ("kind", "named_by"),
    [
        ("iam", "region"),
        ("iam", "environment"),
        ("iam", "profile"),
        ("sts", "region"),
        ("sts", "environment"),
    ],
)
async def test_an_oidc_token_is_exchanged_in_the_projects_region_unless_another_place_is_named(
    no_places: pytest.MonkeyPatch, tmp_path: Path, kind: str, named_by: str
) -> None:
    clock, paths = now_clock(), list[str]()
    (tmp_path / "oidc-token").write_text("id")

    async def exchange(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        body = {"credential": temporary_key(clock)}
        return web.json_response(body, status=201, headers={"X-Subject-Token": "unscoped"})

    async with Api([exchange]).server() as server:
        url = str(server.make_url("/")).rstrip("/")
        by_region = vars(sdk_endpoints)[f"__{kind.upper()}_ENDPOINT_DICT"]
        no_places.setitem(by_region, "cn-south-1", url if named_by == "region" else "http://127.0.0.1:9")
        if named_by == "environment":
            no_places.setenv(f"HUAWEICLOUD_SDK_{kind.upper()}_ENDPOINT", url)
        if named_by == "profile":
            profile = f"[basic]\niam_endpoint = {url}\nidp_id = idp\nid_token_file = {tmp_path}/oidc-token\n"
            (tmp_path / "credentials").write_text(profile)
        elif kind == "iam":
            no_places.setenv("HUAWEICLOUD_SDK_IDP_ID", "idp")
            no_places.setenv("HUAWEICLOUD_SDK_ID_TOKEN_FILE", str(tmp_path / "oidc-token"))
        else:
            no_places.setenv("HUAWEICLOUD_OIDC_PROVIDER_URN", "iam::provider")
            no_places.setenv("HUAWEICLOUD_OIDC_AGENCY_URN", "iam::agency")
            no_places.setenv("HUAWEICLOUD_OIDC_TOKEN_FILE", str(tmp_path / "oidc-token"))
        assert await access_key(real_chain(clock, "cn-south-1")) == "TAK"
    assert (
        paths
        == {
            "iam": ["/v3.0/OS-AUTH/id-token/tokens", "/v3.0/OS-CREDENTIAL/securitytokens"],
            "sts": ["/v5/agencies/assume-with-oidc"],
        }[kind]
    )
