"""Which plan a target wants: the recipe of what the spec asks for now, and the EnginePlan of it, made or taken up."""

import logging
from dataclasses import dataclass

from enginewright_operator import api, choice, recipes, traces
from enginewright_operator.choice import Choice
from enginewright_operator.errors import ConflictError
from enginewright_operator.gather import EngineInput, TargetInput, owns
from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.rollout import served_by
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The plan that the spec asks for (None while it cannot be told), and in what the plan that serves is another.

    `choice` is the product of the class that it is for; None where none can be told.
    """

    plan: api.EnginePlan | None = None
    stale: str = ""
    choice: Choice | None = None


async def ensure(inp: EngineInput, target: TargetInput, gpu_class: api.GPUClass, scope: Scope) -> Wanted:
    """The plan that the spec asks for, created or taken up."""
    engine, storage = inp.engine, inp.storage
    if inp.identities is None or storage is None:
        return Wanted()
    before = _current_recipe(inp, target)
    chosen = choice.choose(gpu_class, inp.nodes, held=before.target.product if before else "")
    pinned = choice.only(gpu_class, chosen.product) if chosen else None
    if pinned is None:
        return Wanted()
    now = recipes.recipe_for(engine.spec, pinned, inp.identities)
    recipe = _kept_at_an_upgrade(engine, before, now)
    plan = recipes.engine_plan(engine, storage, pinned, recipe, why=recipes.why_rebuilt(before, recipe))
    known = inp.plans.get(plan.metadata.name) or await scope.gatherer.plan_named(
        engine.metadata.namespace, plan.metadata.name
    )
    if known is None:
        known = await scope.cluster.create_plan(plan, engine, annotations=traces.begun(engine))
        if known is None:
            raise ConflictError(f"The EnginePlan {plan.metadata.name} was created meanwhile: it is read again.")
        logger.info("Created the EnginePlan %s for %s.", plan.metadata.name, engine.metadata.name)
    elif known.metadata.deletion_timestamp is None and not owns(engine, known):
        await scope.cluster.own(known, engine)
    return Wanted(plan=known, stale=recipes.stale(before, now, rebuilt=recipe == now), choice=chosen)


def _kept_at_an_upgrade(engine: api.InferenceEngine, before: Recipe | None, now: Recipe) -> Recipe:
    """The recipe that serves, where only a new version of Enginewright differs and the policy is to leave it."""
    upgrades = engine.spec.build.rebuild_on is api.RebuildOn.UPGRADE
    return before if before and not upgrades and recipes.differs_only_in_builder(before, now) else now


def _current_recipe(inp: EngineInput, target: TargetInput) -> Recipe | None:
    """The recipe of what serves, else of what was last wanted."""
    names = [served_by(target.deployment), target.row.desired_plan if target.row else ""]
    for name in names:
        if plan := inp.plans.get(name):
            try:
                return plan.spec.parsed_recipe()
            except PlanError:
                continue  # of another version of Enginewright: nothing to compare with
    return None
