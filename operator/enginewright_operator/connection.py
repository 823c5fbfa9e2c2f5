"""Which cluster, and as whom: read once, before anything is asked."""

import os

from kubernetes.aio import config


async def connect() -> None:
    """Credentials from KUBECONFIG where it is set, else from the pod's service account, else from the person's own."""
    if os.environ.get("KUBECONFIG"):
        await config.load_kube_config()  # type: ignore[no-untyped-call]
        return
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config()  # type: ignore[no-untyped-call]
