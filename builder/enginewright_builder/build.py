"""The whole build in one function, to be read first: from a request to a proven plan in storage.

Fetch -> import -> for each shape: passes, memory plan, tactics -> emit -> prove (goldens, gates) -> deliver. A plan
that fails a gate is never stored, and nothing is stored but whole.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import enginewright_runtime
from enginewright_builder import delivery, emit, gates, measuring, planning, proving, report, schedules, sources
from enginewright_builder.calibration import samples as calibration
from enginewright_builder.calibration.samples import Samples
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import table
from enginewright_builder.network import specialize
from enginewright_builder.network.network import Network
from enginewright_builder.planning import Built, Shapes
from enginewright_builder.plugins import collection
from enginewright_builder.progress import Progress
from enginewright_builder.proving import Proven
from enginewright_builder.tuning import allowance, caching
from enginewright_builder.tuning.allowance import Allowance
from enginewright_builder.tuning.inputs import Reference
from enginewright_runtime.engine import available
from enginewright_runtime.errors import StorageError, TargetMismatchError, UsageError
from enginewright_runtime.plan import container
from enginewright_runtime.plan.manifest import Binding, Manifest
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.recipe import Precision, Recipe
from enginewright_runtime.plan.request import BuildRequest, BuildResult
from enginewright_runtime.plan.signature import Seal
from enginewright_runtime.plan.target import Target, TargetKind, unmet

_EXTRA_STEPS = 3  # of a schedule, beside its candidates: passes, inputs, the race


def build(
    request: BuildRequest, *, progress: Progress, workdir: Path, overwrite: bool = False, seal: Seal | None = None
) -> BuildResult:
    """Build the plan that `request` orders and store it. `workdir` takes the inputs and the plan: plan for their size.

    Without `overwrite` the first of several builders wins and all succeed. `seal` signs what is stored. Raises an
    EnginewrightError whose outcome says how it ended; GatesFailedError carries the result with every verdict.
    """
    started = time.monotonic()
    recipe = request.recipe
    here, check = _require_buildable(recipe), seal.check if seal else None
    if not overwrite and (there := delivery.already_there(request, workdir, check=check)) is not None:
        return there
    with progress.phase("Fetching the model and its data") as step:
        fetched = sources.fetch(request, workdir, step)
    with progress.phase("Reading the network") as step, sources.named_as_given(request, fetched):
        step(fetched.model.name)
        network = table.read(
            recipe.format,
            fetched.model,
            companion=fetched.companion,
            outputs=recipe.outputs,
            plugins=collection.load(fetched.plugins),
        )
        shapes, decided = schedules.wanted(network, recipe)
        taken = [[emit.binding(value) for value in specialize.with_shapes(network, each).inputs] for each in shapes]
        samples = _samples(recipe, fetched, taken[0])
        proving.require_judgeable(recipe.gates, taken, fetched.accuracy)
    notes = [note for note in (decided, *network.notes, *_precision_notes(recipe)) if note]
    for note in notes:
        progress.note(note)
    blobs = Blobs()
    with planning.reference(network, blobs) as right:
        seconds = allowance.seconds(request.budget_seconds, request.deadline_seconds, time.monotonic() - started)
        order = _Order(
            request=request,
            network=network,
            samples=samples,
            right=right,
            blobs=blobs,
            allowance=Allowance(seconds, len(shapes), wished=request.budget_seconds > 0),
            say=progress.note,
        )
        schedule, steps = _on_gpu if here.kind is TargetKind.CUDA else _on_cpu, 0
        if here.kind is TargetKind.CPU:
            steps = len(shapes) * (planning.candidates_of(recipe.effort, network) + _EXTRA_STEPS)
        with progress.phase("Trying tactics", total=steps) as step:
            built = schedule(order, shapes, step)
        for cut in report.cut([each.facts for each in built]):
            progress.note(cut)
            notes.append(cut)
        plan = workdir / "engine.plan"
        with progress.phase("Proving the plan") as step:
            _write(plan, recipe, here, built, blobs, {})
            proven = proving.prove(plan, built, network, data=fetched.accuracy, right=right, step=step)
    result = _result(recipe, built, proven)
    failure = gates.failure(proven.verdicts)
    if failure:
        seconds = time.monotonic() - started
        failed = replace(result, outcome=Outcome.GATE_FAILED.name, message=failure, seconds=seconds)
        raise gates.GatesFailedError(failed)
    with progress.phase("Storing the plan") as step, sources.called({str(plan): "The plan"}):
        step(request.destination)
        _write(plan, recipe, here, built, blobs, _report(result, built, proven, notes, blobs), seal)
        size, digest = delivery.fingerprint(plan)
        first = delivery.deliver(plan, request, workdir, overwrite=overwrite, check=check, step=step)
    return replace(
        first or replace(result, plan_bytes=size, plan_sha256=digest), seconds=round(time.monotonic() - started, 3)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What every schedule of a build is made from."""

    request: BuildRequest
    network: Network
    samples: Samples | None
    right: Reference
    blobs: Blobs
    allowance: Allowance
    say: Callable[[str], None]


def _on_cpu(order: _Order, shapes: Sequence[Shapes], step: Callable[[str], None]) -> list[Built]:
    return [
        planning.schedule(
            index=index,
            network=order.network,
            shapes=each,
            samples=order.samples,
            right=order.right,
            blobs=order.blobs,
            effort=order.request.recipe.effort,
            step=step,
            deadline=order.allowance.next(),
        )
        for index, each in enumerate(shapes)
    ]


def _on_gpu(order: _Order, shapes: Sequence[Shapes], step: Callable[[str], None]) -> list[Built]:
    # Here, because a machine without a GPU need not have what these import.
    from enginewright_builder.device import schedule, workshop

    # Tuned within the request's tighter limit; the plan keeps the recipe that it was ordered by.
    recipe = replace(order.request.recipe, workspace=order.request.workspace_limit)
    with workshop.opened(caching.address(order.request, os.environ), recipe.builder, step, order.say) as shop:
        return [
            schedule.schedule(
                index=index,
                network=order.network,
                shapes=each,
                samples=order.samples,
                right=order.right,
                blobs=order.blobs,
                recipe=recipe,
                workshop=shop,
                deadline=order.allowance.next(),
            )
            for index, each in enumerate(shapes)
        ]


def _require_buildable(recipe: Recipe) -> Target:
    """This machine, if the recipe can be built on it with this builder."""
    if recipe.builder != enginewright_runtime.__version__:
        raise UsageError(
            f"The recipe is for builder {recipe.builder}, and this is {enginewright_runtime.__version__}: "
            "run the builder image of the operator's version."
        )
    cuda = recipe.target.kind is TargetKind.CUDA
    here = available.describe_cuda() if cuda else available.describe_host()
    if here is None:
        raise TargetMismatchError("There is no NVIDIA GPU here to build for: check nvidia-smi, or use --target cpu.")
    reasons = unmet(recipe.target, here)
    if reasons:
        raise TargetMismatchError(
            f"This machine is not what the recipe's target asks for ({'; '.join(reasons)}): build it on one that is."
        )
    return here


def _samples(recipe: Recipe, fetched: sources.Sources, taken: Sequence[Binding]) -> Samples | None:
    if fetched.calibration is None:
        return None
    what = f"The calibration file {fetched.calibration}"
    return calibration.read(fetched.calibration, taken, what=what, limit=recipe.calibration_samples)


def _precision_notes(recipe: Recipe) -> list[str]:
    if recipe.target.kind is TargetKind.CUDA:
        return ["int8 allowed, and no GPU tactic uses it yet"] if Precision.INT8 in recipe.precisions else []
    names = ", ".join(p for p in recipe.precisions if p is not Precision.FP32)
    return [f"{names} allowed, and the cpu target has no tactics for it yet: built as the model is"] if names else []


def _result(recipe: Recipe, built: Sequence[Built], proven: Proven) -> BuildResult:
    """`latency_ms` is of the gate's batch, else of the first schedule that has one."""
    first = built[0].facts
    latency = next((each for each in proven.latencies if each is not None), None)
    if recipe.gates.latency is not None:
        sizes = [measuring.batch_of(each.schedule.inputs) for each in built]
        latency = proven.latencies[sizes.index(recipe.gates.latency.batch)]
    known = {} if latency is None else {"p50": latency.p50, "p90": latency.p90, "p99": latency.p99}
    shapes = f"{len(built)} shapes" if len(built) > 1 else "1 shape"
    return BuildResult(
        outcome=Outcome.DONE.name,
        message=f"Built for {shapes}: {first.layers_before} layers became {first.layers_after}"
        + (f", p99 {latency.p99:.3g} ms." if latency else "."),
        digest=recipe.digest,
        layers_before=first.layers_before,
        layers_after=first.layers_after,
        latency_ms={name: round(value, 4) for name, value in known.items()},
        gates=proven.verdicts,
    )


def _report(
    result: BuildResult, built: Sequence[Built], proven: Proven, notes: Sequence[str], blobs: Blobs
) -> dict[str, Any]:
    facts = [replace(b.facts, latency=known) for b, known in zip(built, proven.latencies, strict=True)]
    names = emit.blobs_of([each.schedule.segments[0] for each in built], [])
    weights = sum(len(blobs.blob(name)) for name in set(names) if name.startswith("weights/"))
    told = report.of(
        schedules=facts, notes=notes, verdicts=proven.verdicts, accuracy=proven.accuracy, weights_bytes=weights
    )
    told["result"] = {
        "layers_before": result.layers_before,
        "layers_after": result.layers_after,
        "latency_ms": dict(result.latency_ms),
    }
    return told


def _write(
    path: Path,
    recipe: Recipe,
    here: Target,
    built: Sequence[Built],
    blobs: Blobs,
    told: dict[str, Any],
    seal: Seal | None = None,
) -> None:
    goldens = tuple(golden for each in built for golden in each.goldens)
    segments = [segment for each in built for segment in each.schedule.segments]
    kept = blobs.only(emit.blobs_of(segments, goldens))
    manifest = Manifest(
        recipe=recipe,
        digest=recipe.digest,
        target=here,
        builder=enginewright_runtime.__version__,
        schedules=tuple(each.schedule for each in built),
        blobs=container.layout(kept),
        goldens=goldens,
        report=told,
    )
    try:
        container.write(path, manifest, kept, sign=seal.sign if seal else None, durable=False)  # the store's copy is
    except OSError as error:
        raise StorageError(
            f"The plan cannot be written to {path.parent} ({error.strerror}): make room there, or name a larger folder "
            "in TMPDIR."
        ) from error
