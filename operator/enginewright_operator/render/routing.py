"""A Gateway API HTTPRoute that divides an engine's requests between the plan that serves and its canary. Pure.

Two more Services, one for each of the two Deployments, are what the route's weights stand beside.
"""

from enginewright_operator.api import InferenceEngine, ParentRef
from enginewright_operator.render import names, serving
from enginewright_operator.render.names import Track
from enginewright_operator.render.pods import Json
from enginewright_operator.settings import Settings

API_VERSION = "gateway.networking.k8s.io/v1"
KIND = "HTTPRoute"
PLURAL = "httproutes"


def routing(engine: InferenceEngine, settings: Settings, *, weight: int) -> list[Json]:
    """The Services and the route, where one is wanted; the canary gets `weight` percent."""
    wanted = engine.spec.serving.route
    if wanted is None:
        return []
    shares = {Track.STABLE: 100 - weight, Track.CANARY: weight}
    backends = [
        {"name": names.service_name(engine.metadata.name, track), "port": settings.serving_port, "weight": share}
        for track, share in shares.items()
    ]
    spec: Json = {
        "parentRefs": [_parent(each) for each in wanted.parent_refs],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}],
    }
    if wanted.hostnames:
        spec["hostnames"] = list(wanted.hostnames)
    route = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": serving.metadata(engine, engine.metadata.name),
        "spec": spec,
    }
    return [*(serving.service(engine, settings, track) for track in shares), route]


def _parent(reference: ParentRef) -> Json:
    return reference.model_dump(mode="json", by_alias=True, exclude_none=True)
