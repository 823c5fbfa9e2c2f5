"""What stands around an engine's pods is kept as render.surroundings says, and what is no more wanted goes."""

from enginewright_operator.gather import EngineInput
from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.render import routing
from enginewright_operator.render import surroundings as render


async def keep(inp: EngineInput, scope: Scope, *, weight: int) -> None:
    """Apply all of it, and take away the rest. Raises QuotaError where the namespace has no room."""
    wanted = render.surroundings(inp.engine, scope.settings, weight=weight)
    for manifest in wanted:
        await scope.cluster.apply(manifest, inp.engine, annotations={})
    kept = {(each["kind"], each["metadata"]["name"]) for each in wanted}
    for each in inp.surroundings:
        kind, name = each["kind"], each["metadata"]["name"]
        if (kind, name) not in kept and not each["metadata"].get("deletionTimestamp"):
            await scope.cluster.delete(kind, inp.engine.metadata.namespace, name)


async def lower(inp: EngineInput, scope: Scope, *, weight: int) -> None:
    """Give a canary less of what comes through Gateways before its pods go."""
    for manifest in routing.routing(inp.engine, scope.settings, weight=weight):
        await scope.cluster.apply(manifest, inp.engine, annotations={})
