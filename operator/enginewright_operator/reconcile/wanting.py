"""Which plan a target wants: the recipe of what the spec asks for now, and the EnginePlan of it, made or taken up."""

import logging
from dataclasses import dataclass

from enginewright_operator import api, choice, drift, recipes, traces
from enginewright_operator.choice import Choice
from enginewright_operator.conditions import Verdict
from enginewright_operator.errors import ConflictError
from enginewright_operator.gather import EngineInput, TargetInput, owns
from enginewright_operator.reconcile.scope import Scope
from enginewright_operator.rollout import served_by
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The plan that the spec asks for, and the product of the class that it is for; None while it cannot be told.

    `stale` says whether the plan that serves is another, None where none does, or it cannot be told.
    """

    plan: api.EnginePlan | None = None
    stale: Verdict | None = None
    choice: Choice | None = None


async def ensure(inp: EngineInput, target: TargetInput, gpu_class: api.GPUClass, scope: Scope) -> Wanted:
    """The plan that the spec asks for, created or taken up."""
    engine, storage = inp.engine, inp.storage
    if inp.identities is None or storage is None:
        return Wanted()
    serves = _recipe_of(inp, served_by(target.deployment))
    before = serves or _recipe_of(inp, target.row.desired_plan if target.row else "")
    chosen = choice.choose(gpu_class, inp.nodes, held=before.target.product if before else "")
    pinned = choice.only(gpu_class, chosen.product) if chosen else None
    if chosen is None or pinned is None:
        return Wanted()
    asked = recipes.recipe_for(
        engine.spec,
        pinned,
        inp.identities,
        driver=chosen.driver,
        builder_image=recipes.image_identity(scope.settings.builder_image),
    )
    now, policy = drift.as_far_as_known(serves, asked), engine.spec.build.rebuild_on
    recipe = drift.wanted(serves, now, policy)
    plan = recipes.engine_plan(engine, storage, pinned, recipe, why=drift.why_rebuilt(before, recipe))
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
    return Wanted(plan=known, stale=drift.verdict(serves, now, policy), choice=chosen)


def _recipe_of(inp: EngineInput, name: str) -> Recipe | None:
    """The recipe of one of the engine's plans; None where there is none to compare with."""
    plan = inp.plans.get(name)
    if plan is None:
        return None
    try:
        return plan.spec.parsed_recipe
    except PlanError:
        return None  # of another version of Enginewright
