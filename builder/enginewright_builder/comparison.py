"""A plan against the model it was made from: how far their outputs are apart, on the same inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enginewright_builder import emit, planning
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import table
from enginewright_builder.measuring import cosine
from enginewright_builder.network.network import Network
from enginewright_builder.plugins import collection
from enginewright_builder.progress import Progress, Silent, Step
from enginewright_builder.tuning import bounds, inputs
from enginewright_builder.tuning.bounds import Arithmetic
from enginewright_builder.tuning.inputs import Feed, Reference
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.engine.values import Array, Value
from enginewright_runtime.errors import InputError, PlanError, UnsupportedError
from enginewright_runtime.plan.manifest import Schedule


class OutOfBoundError(PlanError):
    """A plan's outputs are further from the model's than its arithmetic explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One output over all samples. `top1` is the share of rows whose largest value is the same one.

    `absolute` and `relative` are the worst errors of any element; `relative` is to the largest value of the output.
    `reason` is empty where every element is within the bound of the arithmetic.
    """

    output: str
    absolute: float
    relative: float
    cosine: float
    top1: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All outputs, on how many feeds, from where, and the arithmetic whose bound was used."""

    differences: tuple[Difference, ...]
    feeds: int
    source: str
    arithmetic: Arithmetic

    def require_within(self, plan: Path) -> None:
        """Raise OutOfBoundError naming the first output that is off."""
        for difference in self.differences:
            if difference.reason:
                raise OutOfBoundError(
                    f"The plan {plan} does not compute what the model does: output {difference.output!r} is outside "
                    f"the bound of {self.arithmetic} ({difference.reason}); build it again, or report the model."
                )


def compare(
    model: Path,
    plan: Path,
    *,
    samples: int,
    given: Mapping[str, Array],
    companion: Path | None = None,
    plugins: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Run the model, untouched, and the plan on `given` inputs, else on `samples` random feeds a schedule.

    `companion` is the second file of a model that has one, Caffe's prototxt; `plugins` are the files of its plugins,
    which may then run.

    Raises ModelError, PlanError, InputError, and UnsupportedError where no input can be made up.
    """
    own, shown = collection.load(plugins), progress or Silent()
    with Engine(plan, allow_plugins=bool(own)) as engine:
        recipe = engine.manifest.recipe
        with shown.phase("Reading the network"):
            network = table.read(recipe.format, model, companion=companion, outputs=recipe.outputs, plugins=own)
        _require_same_bindings(network, engine, model)
        kind = bounds.coarsest(network, recipe.arithmetic)
        with planning.reference(network, Blobs()) as right:
            feeds, source = _feeds(engine.manifest.schedules, right, samples, given)
            with shown.phase("Running both", total=2 * len(feeds)) as step:
                ours = _answers(engine.infer, feeds, step, "the plan")
                theirs = _answers(right, feeds, step, "the model")
    names = [binding.name for binding in engine.outputs]
    found = tuple(_difference(name, [o[name] for o in ours], [t[name] for t in theirs], kind) for name in names)
    return Comparison(differences=found, feeds=len(feeds), source=source, arithmetic=kind)


def _answers(run: Callable[[Feed], Feed], feeds: Sequence[Feed], step: Step, who: str) -> list[Feed]:
    found = []
    for feed in feeds:
        step(who)
        found.append(run(dict(feed)))
    return found


def _feeds(
    schedules: Sequence[Schedule], right: Reference, samples: int, given: Mapping[str, Array]
) -> tuple[list[Feed], str]:
    if given:
        return [given], "the given inputs"
    feeds: list[Feed] = []
    for schedule in schedules:
        proof = inputs.prove_with(schedule.inputs, None, right)
        if proof.reason:
            raise UnsupportedError(f"No inputs can be made up ({proof.reason}): give them with --input name=file.npy.")
        rung = inputs.LADDER[proof.rung]
        feeds += [inputs.random(schedule.inputs, rung, seed) for seed in range(samples)]
    return feeds, "random inputs"


def _require_same_bindings(network: Network, engine: Engine, model: Path) -> None:
    for what, values, bindings in (
        ("inputs", network.inputs, engine.inputs),
        ("outputs", network.outputs, engine.outputs),
    ):
        ours = {(binding.name, binding.dtype) for binding in bindings}
        theirs = {(each.name, each.dtype) for each in map(emit.binding, values)}
        if ours != theirs:
            raise InputError(
                f"The plan {engine.path} was not made from the model {model}: the plan's {what} are {_listed(ours)}, "
                f"the model's are {_listed(theirs)}; name the model that it was built from."
            )


def _listed(bindings: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in sorted(bindings)) or "none"


def _difference(name: str, ours: Sequence[Value], theirs: Sequence[Value], kind: Arithmetic) -> Difference:
    pairs = list(zip(ours, theirs, strict=True))
    reason = next((why for o, t in pairs if (why := bounds.disagreement({name: o}, {name: t}, kind))), "")
    arrays = [(o, t) for o, t in pairs if _comparable(o, t)]
    if not arrays:
        same = 0.0 if reason else 1.0
        return Difference(output=name, absolute=0.0, relative=0.0, cosine=same, top1=same, reason=reason)
    left, right = [_rows(o) for o, _ in arrays], [_rows(t) for _, t in arrays]
    return Difference(
        output=name,
        absolute=max(float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(left, right, strict=True)),
        relative=max(bounds.worst([{name: o}], [{name: t}]) for o, t in arrays),
        cosine=float(np.mean([cosine(a, b) for a, b in zip(left, right, strict=True)])),
        top1=float(np.mean([np.mean(a.argmax(axis=1) == b.argmax(axis=1)) for a, b in zip(left, right, strict=True)])),
        reason=reason,
    )


def _comparable(ours: Value, theirs: Value) -> bool:
    if not isinstance(ours, np.ndarray) or not isinstance(theirs, np.ndarray):
        return False
    return ours.shape == theirs.shape and theirs.dtype.kind not in "Oc" and theirs.size > 0


def _rows(value: Value) -> Array:
    """As [samples, values]; infinite values and NaN, which the bound looks at, as zeroes."""
    array = np.nan_to_num(np.asarray(value).astype(np.float64), posinf=0.0, neginf=0.0)
    return array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
