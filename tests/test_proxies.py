"""Proxies of the environment: when they are left out, what is no proxy, and that they do not show."""

from __future__ import annotations

import pytest

from exporter.errors import StartError
from exporter.octopus.proxies import Proxies, bypasses, secrets

STRAIGHT = [
    # Everything.
    ("*", "octopus.example.com", 443),
    ("a.test, *", "octopus.example.com", 443),
    # Names: the host itself and those below it.
    ("example.com", "example.com", 443),
    ("example.com", "octopus.example.com", 443),
    (".example.com", "octopus.example.com", 443),
    (".example.com", "example.com", 443),
    ("*.example.com", "octopus.example.com", 443),
    ("EXAMPLE.com", "octopus.Example.COM", 443),
    ("example.com.", "octopus.example.com", 443),
    ("example.com", "octopus.example.com.", 443),
    ("localhost", "localhost", 80),
    ("a.test,example.com", "example.com", 443),
    ("a.test example.com", "example.com", 443),
    (" a.test ,\texample.com , ", "example.com", 443),
    # Ports.
    ("example.com:443", "octopus.example.com", 443),
    ("10.1.2.3:8080", "10.1.2.3", 8080),
    ("[::1]:8080", "::1", 8080),
    ("*.example.com:443", "octopus.example.com", 443),
    # Addresses.
    ("10.1.2.3", "10.1.2.3", 443),
    ("::1", "::1", 443),
    ("[::1]", "::1", 443),
    ("::1", "[::1]", 443),
    ("0:0:0:0:0:0:0:1", "::1", 443),
    ("2001:DB8::1", "2001:db8:0::1", 443),
    ("fe80::1", "fe80::1%eth0", 443),
    ("10.1.2.3", "::ffff:10.1.2.3", 443),
    # Networks.
    ("10.0.0.0/8", "10.200.3.4", 443),
    ("10.1.2.3/8", "10.200.3.4", 443),
    ("a.test,192.168.0.0/16", "192.168.7.9", 8443),
    ("127.0.0.0/8", "127.0.0.1", 80),
    ("2001:db8::/32", "2001:db8:1::5", 443),
    ("::1/128", "::1", 443),
    ("10.0.0.0/8", "::ffff:10.1.2.3", 443),
    ("0.0.0.0/0", "8.8.8.8", 443),
]
BY_PROXY = [
    ("", "octopus.example.com", 443),
    (" , ", "octopus.example.com", 443),
    ("example.com", "notexample.com", 443),
    ("example.com", "example.com.evil.test", 443),
    ("example.com", "com", 443),
    ("*.example.com", "example.com", 443),
    ("*.example.com", "notexample.com", 443),
    ("exam*.com", "example.com", 443),
    ("example.com:443", "example.com", 8443),
    ("example.com:https", "example.com", 443),
    ("10.1.2.3:8080", "10.1.2.3", 443),
    ("[::1]:8080", "::1", 443),
    ("10.1.2.3", "10.1.2.30", 443),
    ("2.3", "10.1.2.3", 443),
    (".3", "10.1.2.3", 443),
    ("::1", "::2", 443),
    ("::1", "127.0.0.1", 443),
    ("localhost", "127.0.0.1", 443),
    ("10.0.0.0/8", "11.0.0.1", 443),
    ("10.0.0.0/8", "octopus.example.com", 443),
    ("10.0.0.0/8", "10.example.com", 443),
    ("2001:db8::/32", "2001:db9::1", 443),
    ("0.0.0.0/0", "::1", 443),
    ("10.0.0.0/99", "10.0.0.1", 443),
    ("example.com/8", "example.com", 443),
    ("::1", "", 443),
]


@pytest.mark.parametrize(("no_proxy", "host", "port"), STRAIGHT)
def test_what_no_proxy_names_is_asked_straight(no_proxy: str, host: str, port: int) -> None:
    assert bypasses(no_proxy, host, port)


@pytest.mark.parametrize(("no_proxy", "host", "port"), BY_PROXY)
def test_what_no_proxy_does_not_name_goes_by_the_proxy(no_proxy: str, host: str, port: int) -> None:
    assert not bypasses(no_proxy, host, port)


PROXY = "http://user:p%40ss@proxy.test:3128"


@pytest.mark.parametrize(
    ("env", "origin", "proxy"),
    [
        ({}, "https://octopus.test", None),
        ({"HTTPS_PROXY": PROXY}, "https://octopus.test", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://octopus.test", None),
        ({"http_proxy": PROXY}, "http://octopus.test:8080", PROXY),
        ({"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}, "https://octopus.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, "https://octopus.test", None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "octopus.test:443"}, "https://octopus.test", None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "octopus.test:443"}, "https://octopus.test:8443", PROXY),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "[2001:db8::]/32"}, "https://[2001:db8::7]:8443", PROXY),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "2001:db8::/32"}, "https://[2001:db8::7]:8443", None),
    ],
)
def test_the_proxy_of_an_origin(env: dict[str, str], origin: str, proxy: str | None) -> None:
    assert Proxies(env).of(origin) == proxy


@pytest.mark.parametrize(
    "value",
    [
        "http://proxy.test",
        "HTTP://proxy.test:3128/",
        "https://user@proxy.test:3128",
        "http://user:p%40%2F%23@10.0.0.1:3128",
        "http://u:p:w@[::1]:3128",
        " http://proxy_1.test:3128 ",
        "http://user:p%C3%A9@proxy.test",
    ],
)
def test_what_is_a_proxy(value: str) -> None:
    assert Proxies({"HTTPS_PROXY": value}).of("https://octopus.test") == value.strip()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("user:PASS@proxy.test:3128", "it does not begin with http:// or https://"),
        ("proxy.test:3128", "it does not begin with http:// or https://"),
        ("socks5://user:PASS@proxy.test:3128", "it does not begin with http:// or https://"),
        ("http://user:PA/SS@proxy.test:3128", "must be percent-encoded"),
        ("http://user:PA#SS@proxy.test:3128", "must be percent-encoded"),
        ("http://user:PA?SS@proxy.test:3128", "must be percent-encoded"),
        ("http://user:PA@SS@proxy.test:3128", "must be percent-encoded"),
        ("http://user:PA SS@proxy.test:3128", "must be percent-encoded"),
        ("http://user:PASS\N{CJK UNIFIED IDEOGRAPH-4E2D}@proxy.test", "no header can carry"),
        ("http://user:PASS%0D%0A@proxy.test", "no header can carry"),
        ("http://user:PASS@proxy.test:99999", "its port is not a number from 1 to 65535"),
        ("http://user:PASS@proxy.test:0", "its port is not a number from 1 to 65535"),
        ("http://user:PASS@proxy.test:PASS", "its port is not a number from 1 to 65535"),
        ("http://user:PASS@proxy.test:", "its port is not a number from 1 to 65535"),
        ("http://user:PASS@:3128", "it names no host"),
        ("http://user:PASS@[::zz]:3128", "it names no host"),
        ("http://user:PASS@proxy.test:3128/PASS", "it has a path"),
        ("http://", "it names no host"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy"])
def test_what_is_no_proxy_is_said_without_its_value(name: str, value: str, said: str) -> None:
    with pytest.raises(StartError, match=f"^{name}: .*{said}.*; expected a URL such as http://") as caught:
        Proxies({name: value})
    assert "PA" not in str(caught.value)
    assert "SS" not in str(caught.value).replace("HTTPS_PROXY", "")


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ()),
        ({"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": "a:b@c"}, ()),
        ({"HTTPS_PROXY": PROXY}, ("user", "p%40ss", "p@ss")),
        ({"https_proxy": "user:PASS@proxy.test:3128"}, ("user", "PASS")),
        ({"HTTP_PROXY": "http://user:PA/S#S@proxy.test:x"}, ("user", "PA/S#S")),
        ({"ALL_PROXY": "socks5://user:PA@SS@proxy.test"}, ("user", "PA@SS")),
        ({"HTTP_PROXY": PROXY, "http_proxy": PROXY}, ("user", "p%40ss", "p@ss")),
        ({"HTTP_PROXY": "http://token@proxy.test"}, ("token",)),
    ],
)
def test_users_and_passwords_are_secrets(env: dict[str, str], expected: tuple[str, ...]) -> None:
    assert secrets(env) == expected
