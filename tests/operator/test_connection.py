"""The environment's proxy is found once, so that no request has to look for it."""

import pytest

from enginewright_operator.connection import proxy_of


@pytest.fixture(autouse=True)
def through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.1,.cluster.local")


def test_a_server_elsewhere_is_reached_through_it() -> None:
    assert proxy_of("https://api.example.com:6443") == "http://proxy:3128"


@pytest.mark.parametrize("server", ["https://10.0.0.1:443", "https://kubernetes.default.svc.cluster.local"])
def test_a_server_that_no_proxy_names_is_reached_directly(server: str) -> None:
    assert proxy_of(server) is None


def test_the_proxy_is_of_the_servers_own_scheme() -> None:
    assert proxy_of("http://127.0.0.1:8001") is None
