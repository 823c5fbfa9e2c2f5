"""Which cluster, and as whom: read once, before anything is asked."""

import os
import urllib.request
from urllib.parse import urlsplit

from kubernetes.aio import client, config


async def connect() -> None:
    """Credentials from KUBECONFIG where it is set, else from the pod's service account, else from the person's own."""
    await _load()
    settled = client.Configuration.get_default_copy()
    settled.proxy = settled.proxy or proxy_of(settled.host)
    # Else aiohttp reads .netrc and asks for the proxy before each request, in two threads: a tenth of all our work.
    settled.client_session_kwargs = {"trust_env": False}
    client.Configuration.set_default(settled)


async def _load() -> None:
    if os.environ.get("KUBECONFIG"):
        await config.load_kube_config()  # type: ignore[no-untyped-call]
        return
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config()  # type: ignore[no-untyped-call]


def proxy_of(server: str) -> str | None:
    """The proxy through which the environment's HTTPS_PROXY and NO_PROXY lead to a server; None: directly."""
    where = urlsplit(server)
    if urllib.request.proxy_bypass(where.hostname or ""):
        return None
    return urllib.request.getproxies().get(where.scheme)
