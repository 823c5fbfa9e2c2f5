"""The cluster that a kubeconfig names, if one answers, and what `explain` asks of it. Reads only.

`explain` must also be of use without a cluster, and quickly: a cluster that does not answer at once counts as none.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginewright_operator import api, slices
from enginewright_operator.errors import ManifestError
from enginewright_operator.gpu import Node

PATIENCE = 3.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a cluster has; `nodes` is None where none answered, and `why_not` says so."""

    nodes: tuple[Node, ...] | None = None
    gpu_classes: Mapping[str, api.GPUClass] = field(default_factory=dict)
    products: Mapping[str, str] = field(default_factory=dict)  # that the engine's plans are for, by GPU class
    why_not: str = ""


def look(engine: api.ObjectMeta, environment: Mapping[str, str] = os.environ) -> Seen:
    """The cluster of the current kubeconfig, and what it has of the engine of this name.

    One that cannot be asked is no error: `why_not` says why.
    """
    file = environment.get("KUBECONFIG", "") or str(Path.home() / ".kube" / "config")
    if not any(Path(part).is_file() for part in file.split(os.pathsep) if part):
        return Seen(why_not="there is no kubeconfig")
    try:
        # Here and not above: the client takes most of a second, and is absent where only `up` is used.
        import urllib3
        from kubernetes import client, config
    except ModuleNotFoundError:
        return Seen(why_not="the package kubernetes is not installed: pip install 'enginewright[operator]'")
    try:
        wanted = client.Configuration()
        # The client publishes types for its API and none for this.
        config.load_kube_config(config_file=file, client_configuration=wanted)  # type: ignore[no-untyped-call]
        wanted.retries = False
        with client.ApiClient(wanted) as connection:
            listed = client.CoreV1Api(connection).list_node(_request_timeout=PATIENCE)
            ours = client.CustomObjectsApi(connection)
            devices = _devices(ours, client.ApiException)
            nodes = tuple(_node(each, devices) for each in listed.items)
            classes: Any = ours.list_cluster_custom_object(
                api.GROUP, api.VERSION, api.GPUClass.PLURAL, _request_timeout=PATIENCE
            )
            engines: Any = ours.list_namespaced_custom_object(
                api.GROUP,
                api.VERSION,
                engine.namespace or "default",
                api.InferenceEngine.PLURAL,
                field_selector=f"metadata.name={engine.name}",
                _request_timeout=PATIENCE,
            )
    except config.ConfigException as error:
        return Seen(why_not=f"the kubeconfig cannot be used: {error}")
    except (client.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
        return Seen(why_not=f"the cluster of the kubeconfig gave no answer: {' '.join(str(error).split())[:160]}")
    return Seen(nodes=nodes, gpu_classes=_classes(classes.get("items", ())), products=_products(engines))


def _devices(listing: Any, refusal: type[Exception]) -> slices.ByNode:
    """What can be claimed on each node; nothing where the cluster knows no claims, or does not let them be read."""
    try:
        found = listing.list_cluster_custom_object("resource.k8s.io", "v1", "resourceslices", _request_timeout=PATIENCE)
    except refusal:
        return {}
    return slices.by_node(found.get("items", ()))


def _node(node: Any, devices: Mapping[str, tuple[slices.Device, ...]]) -> Node:
    return Node(
        devices=devices.get(node.metadata.name, ()),
        name=node.metadata.name,
        labels=dict(node.metadata.labels or {}),
        allocatable=dict(node.status.allocatable or {}),
        closed=bool(node.spec and node.spec.unschedulable),
    )


def _products(engines: Any) -> dict[str, str]:
    rows = [row for each in engines.get("items", ()) for row in (each.get("status") or {}).get("targets") or ()]
    return {str(row["gpuClass"]): str(row.get("product", "")) for row in rows}


def _classes(items: Any) -> dict[str, api.GPUClass]:
    """Those that this version can read."""
    found = {}
    for item in items:
        try:
            gpu_class = api.read(api.GPUClass, item)
        except ManifestError:
            continue
        found[gpu_class.metadata.name] = gpu_class
    return found
