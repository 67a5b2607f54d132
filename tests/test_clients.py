"""The clients of a configuration and what they share, over a reload too."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml
from aiohttp import ClientSession, web
from huaweicloudsdkcore.auth import endpoint as sdk_endpoints

from exporter.clients import ClientFactory, keep_configured_secrets
from exporter.config import Config, load
from exporter.masking import Secrets
from exporter.octopus.messages import NullObserver
from exporter.octopus.wire import ListQuery
from tests.octopus_fakes import Api, page, row

EXPIRES = {"p1": "2036-01-01T00:00:00Z", "p2": "2035-01-01T00:00:00Z"}
P1_ENDS, P2_ENDS = 2_082_758_400.0, 2_051_222_400.0


async def cloud(request: web.Request) -> web.StreamResponse:
    """IAM and the API in one: tokens of p2 end before those of p1."""
    if request.method == "POST" and request.path == "/v3/auth/tokens":
        scope = (await request.json())["auth"]["scope"]["project"]["id"]
        body = {"token": {"expires_at": EXPIRES[scope]}}
        return web.json_response(body, status=201, headers={"X-Subject-Token": f"token-{scope}"})
    if request.method == "POST":
        key = {"access": "AK", "secret": "SK", "securitytoken": "ST"}
        body = {"credential": {**key, "expires_at": "2036-01-01T00:00:00.000000Z"}}
        return web.json_response(body, status=201, headers={"X-Subject-Token": "unscoped"})
    return web.json_response(page(row(7)))


def test_the_password_of_the_ledger_is_masked_wherever_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the URL (as written and decoded), in its file, and in libpq's own variable."""
    monkeypatch.setenv("PGPASSWORD", "of-the-environment")
    (tmp_path / "pw").write_text("of-the-file\n")
    file = tmp_path / "config.yaml"
    secrets = Secrets()
    for ledger in (
        {"url": "postgresql://u:of%2Dthe%2Durl@db/o?sslmode=require&sslpassword=of-the-key"},
        {"url": "postgresql://u@db/o", "password_file": "pw"},
        {"url": "postgresql://u@db/o", "password_file": "not there yet"},
    ):
        file.write_text(
            yaml.safe_dump(
                {
                    "projects": [{"id": "p1", "region": "cn-north-11"}],
                    "credentials": {"only": {"type": "chain"}},
                    "ledger": ledger,
                }
            )
        )
        keep_configured_secrets(load(file, {}), secrets)
    for one in ("of-the-environment", "of%2Dthe%2Durl", "of-the-url", "of-the-key", "of-the-file"):
        assert secrets.masked(f"it has {one} in it") == "it has <secret> in it"


class Bench:
    def __init__(self, api: Api, url: str, session: ClientSession, folder: Path) -> None:
        self.api, self.url, self.session, self.folder = api, url, session, folder
        user = {"domain": "ACCOUNT", "user": "USER", "password": "p4ssw0rd", "iam_endpoint": url}
        self.password = {"type": "password", **user}

    def config(self, *projects: str, credentials: dict[str, str], region: str = "") -> Config:
        place = {"endpoint": self.url} | ({"region": region} if region else {})
        document = {
            "projects": [{"id": name, "name": name, **place} for name in projects],
            "credentials": {"default": credentials},
        }
        file = self.folder / "config.yaml"
        file.write_text(yaml.safe_dump(document))
        return load(file, os.environ)

    async def poll(self, access: ClientFactory, config: Config) -> None:
        for target in config.targets():
            listed = await access.client(target).list_page(target, ListQuery())
            assert [job.id for job in listed.jobs] == [7]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        api = Api([cloud])
        server = await stack.enter_async_context(api.server())
        session = await stack.enter_async_context(ClientSession())
        yield Bench(api, str(server.make_url("/")).rstrip("/"), session, tmp_path)


async def test_only_what_is_in_use_is_said_to_end(bench: Bench) -> None:
    both = bench.config("p1", "p2", credentials=bench.password)
    access = ClientFactory(both, bench.session, NullObserver(), Secrets())
    assert access.expiries() == {}
    await bench.poll(access, both)
    assert access.expiries() == {"default": P2_ENDS}

    one = bench.config("p1", credentials=bench.password)
    access = access.reconfigured(one)
    for target in one.targets():
        access.client(target)
    # Nothing was asked: the token was taken over.
    assert access.expiries() == {"default": P1_ENDS}
    assert [request.path for request in bench.api.asked].count("/v3/auth/tokens") == 2

    token = bench.config("p1", credentials={"type": "token", "token": "any"})
    access = access.reconfigured(token)
    await bench.poll(access, token)
    assert access.expiries() == {}


async def test_a_chain_asks_the_iam_of_its_projects_region(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "oidc-token").write_text("id")
    monkeypatch.setenv("HUAWEICLOUD_SDK_IDP_ID", "idp")
    monkeypatch.setenv("HUAWEICLOUD_SDK_ID_TOKEN_FILE", str(tmp_path / "oidc-token"))
    monkeypatch.setitem(vars(sdk_endpoints)["__IAM_ENDPOINT_DICT"], "cn-south-1", bench.url)
    config = bench.config("p1", credentials={"type": "chain"}, region="cn-south-1")
    access = ClientFactory(config, bench.session, NullObserver(), Secrets())
    await bench.poll(access, config)
    assert bench.api.asked[0].path == "/v3.0/OS-AUTH/id-token/tokens"
    assert access.expiries() == {"default": P1_ENDS}


async def test_replicas_share_the_rate_of_an_endpoint_by_the_targets_that_they_poll(bench: Bench) -> None:
    config = bench.config("p1", "p2", "p3", "p4", credentials=bench.password)
    keys = [target.key for target in config.targets()]
    access = ClientFactory(config, bench.session, NullObserver(), Secrets())
    limiters = {access.client(target).limiter for target in config.targets()}
    (limiter,) = limiters

    rates = []
    for held in (keys, keys[:1], [], keys[1:]):
        access.share_rates(held)
        rates.append(limiter.requests_per_second)

    assert rates == [10, 2.5, 2.5, 7.5]
