"""What else is in an engine's namespace: what stands around its pods, and what bears a name that ours would have."""

import asyncio
from collections.abc import Iterable, Sequence

from enginewright_operator import api
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.conditions import Reason
from enginewright_operator.kube import Manifest
from enginewright_operator.render import routing
from enginewright_operator.watched import WATCHED, owner_uids

KINDS = ("Service", "PodDisruptionBudget", "HorizontalPodAutoscaler")

# Between an engine's first look and its first apply: a build takes minutes, in which much happens.
_UNDER_WAY = (
    Reason.WAITING_FOR_BUILD,
    Reason.WAITING_FOR_TURN,
    Reason.WAITING_FOR_NODE,
    Reason.QUEUED,
    Reason.BUILDING,
)


async def surroundings(kube: CachedKube, engine: api.InferenceEngine) -> tuple[Manifest, ...]:
    """What the engine owns beside Deployments and plans."""
    owned = ("owner", engine.metadata.uid)
    found = await asyncio.gather(*(kube.find(kind, engine.metadata.namespace, where=owned) for kind in KINDS))
    route = await _route(kube, engine)
    return (
        *({"kind": kind} | each for kind, rows in zip(KINDS, found, strict=True) for each in rows),
        *([route] if route else []),
    )


async def gateways(kube: CachedKube, engine: api.InferenceEngine) -> bool:
    """Whether the API server knows HTTPRoutes; asked only where one is wanted."""
    return engine.spec.serving.route is None or routing.PLURAL in await kube.discover(routing.API_VERSION)


async def _route(kube: CachedKube, engine: api.InferenceEngine) -> Manifest | None:
    """The HTTPRoute that was made for the engine. It is not watched: most clusters do not know the kind."""
    if engine.status is None or not engine.status.route:
        return None
    found = await kube.get(routing.KIND, engine.metadata.namespace, engine.status.route)
    return found if found is not None and engine.metadata.uid in owner_uids(found) else None


async def in_the_way(
    kube: CachedKube, engine: api.InferenceEngine, wanted: Sequence[tuple[str, str]], plans: Iterable[api.EnginePlan]
) -> tuple[str, ...]:
    """What an apply would take from somebody else: an object is ours only if the engine owns it."""
    rows = engine.status.targets if engine.status else ()
    built = any(plan.status and plan.status.phase is api.Phase.BUILT for plan in plans)
    under_way = bool(rows) and all(row.reason in _UNDER_WAY for row in rows)
    if under_way and not built:
        return ()  # it was asked when the engine was new, and nothing is applied yet
    namespace = engine.metadata.namespace

    async def bearer(kind: str, name: str) -> Manifest | None:
        if under_way and kind in WATCHED:  # of what the cache does not know a create takes nothing
            return kube.known(kind, namespace, name)
        return await kube.bearer(kind, namespace, name)

    found = await asyncio.gather(*(bearer(kind, name) for kind, name in wanted))
    return tuple(
        f"{kind} {name}"
        for (kind, name), each in zip(wanted, found, strict=True)
        if each is not None and engine.metadata.uid not in owner_uids(each)
    )
