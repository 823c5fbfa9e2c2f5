"""One schedule on a GPU: a network with its shapes fixed, through the passes, to device and host segments.

Which layers the device takes is decided first: a layer that no tactic can take becomes part of a host segment where
that is allowed, and otherwise the build ends with a sentence that names every such layer at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder import causes, emit, passes, planning
from enginewright_builder.calibration.samples import Samples
from enginewright_builder.device import assemble, couples, heads, layout, lower, means, triples, whole
from enginewright_builder.device.implementation import Candidate, Device
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.trial import Rehearsing, Sharing
from enginewright_builder.emit import Blobs
from enginewright_builder.network import layers as counts
from enginewright_builder.network import lowering, segments, specialize
from enginewright_builder.network.extract import alone, extract
from enginewright_builder.network.network import Network
from enginewright_builder.network.segments import SegmentSpec
from enginewright_builder.planning import Built, Shapes
from enginewright_builder.plugins import emission
from enginewright_builder.report import ScheduleFacts
from enginewright_builder.tactics import device as tactics
from enginewright_builder.tactics.variant import Variant
from enginewright_builder.tuning import bounds, inputs, trial
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.inputs import Proof, Reference
from enginewright_builder.tuning.problems import Chosen
from enginewright_builder.tuning.tactics import SECONDS, Tuner
from enginewright_builder.tuning.timings import Timings
from enginewright_builder.tuning.tune import Tuned
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Arena, Schedule, Segment
from enginewright_runtime.plan.recipe import Precision, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every schedule of a build shares: the device, who runs candidates, and first in a child process, what is
    known of their times."""

    device: Device
    bench: Sharing
    timings: Timings
    step: Callable[[str], None]
    rehearsals: Rehearsing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One segment with what became of it."""

    segment: Segment
    chosen: tuple[Chosen, ...] = ()
    arena: Arena | None = None
    kernels: int = 0


def schedule(
    *,
    index: int,
    network: Network,
    shapes: Shapes,
    samples: Samples | None,
    right: Reference,
    blobs: Blobs,
    recipe: Recipe,
    workshop: Workshop,
    deadline: Deadline,
) -> Built:
    """Build the schedule `index` of `network` for `shapes`. Raises UnsupportedError naming what the GPU cannot run."""
    untouched = specialize.with_shapes(network, shapes)
    taken = tuple(emit.binding(value) for value in untouched.inputs)
    given = tuple(emit.binding(value) for value in untouched.outputs)
    final = untouched.copy()
    precision = recipe.arithmetic
    workshop.step("passes")
    told = passes.run(final, passes.gpu_pipeline(precision, recipe.keep, capability=workshop.device.capability))
    workshop.step("inputs to check with")
    proof = planning.proof(network, taken, samples, right)
    specs = _split(final, recipe)
    parts = [
        _part(final, spec, f"{index}.{number}", blobs, recipe, workshop, deadline) for number, spec in enumerate(specs)
    ]
    made = tuple(part.segment for part in parts)
    kind = bounds.coarsest(network, precision)
    built = Schedule(inputs=taken, outputs=given, segments=made, arena=_arena(parts))
    require_right(built, untouched, recipe, proof, blobs)
    chosen = tuple(each for part in parts for each in part.chosen)
    kernels = sum(part.kernels for part in parts)
    host = sum(segment.executor == "host" for segment in made)
    return Built(
        schedule=built,
        goldens=planning.goldens(index, proof, kind, blobs),
        proof=proof,
        facts=ScheduleFacts(
            shapes=planning.in_words(taken),
            layers_before=counts.count(network),
            layers_after=kernels + host,
            kinds=counts.kinds(final),
            passes=told,
            checked_with=proof.source or f"not checked: {proof.reason}",
            arena=built.arena,
            tuned=Tuned(
                segment=made[0],
                variant=Variant.FUSED,
                tactic=f"{kernels} launches in one CUDA graph" + (f", {host} host segments" if host else ""),
                why=f"the fastest right tactic of each layer, in {precision}",
                trials=(),
            ),
            chosen=chosen,
        ),
    )


def _split(final: Network, recipe: Recipe) -> tuple[SegmentSpec, ...]:
    declined: dict[ir.Node, str] = {}
    for node in final.layers():
        try:
            tactics.require_runnable(alone(final, node))
        except Declined as reason:
            declined[node] = str(reason)
    if declined and not recipe.allow_host:
        names = "; ".join(f"{node.op_type} {node.name!r} ({why})" for node, why in declined.items())
        raise UnsupportedError(
            f"The GPU has no kernel for {len(declined)} of the layers: {names}: build with --allow-host to run them on "
            "the CPU."
        )
    return segments.split(final, lambda node: "host" if node in declined else "cuda")


def _part(
    final: Network, spec: SegmentSpec, label: str, blobs: Blobs, recipe: Recipe, workshop: Workshop, deadline: Deadline
) -> _Part:
    values = {value.name: value for node in final.layers() for value in (*node.inputs, *node.outputs) if value}
    values |= {value.name: value for value in final.inputs}
    part = extract(
        final,
        spec.layers,
        [values[name] for name in spec.inputs],
        [values[name] for name in spec.outputs],
        name=f"segment {label}",
    )
    if spec.executor == "host":
        return _Part(segment=emission.segment(lowering.to_onnx(part), part.plugins, blobs, f"segments/{label}.onnx"))
    return _device_part(part, label, blobs, recipe, workshop, deadline)


def _device_part(
    part: Network, label: str, blobs: Blobs, recipe: Recipe, workshop: Workshop, deadline: Deadline
) -> _Part:
    placed = layout.assign(part)
    math = "tf32" if recipe.arithmetic is Precision.TF32 else ""
    layers = lower.lower(part, placed.places, placed.free, math=math)
    border = assemble.Border(
        inputs=tuple(emit.binding(value) for value in part.inputs),
        outputs=tuple(emit.binding(value) for value in part.outputs),
    )

    def offer(layer: DeviceLayer, tactic: str) -> list[Candidate]:
        return tactics.candidates(layer, workshop.device, recipe.effort, tactic)

    def able(layer: DeviceLayer) -> bool:
        return bool(offer(layer, ""))

    tuner = Tuner(
        offer=offer,
        bench=workshop.bench,
        device=workshop.device,
        timings=workshop.timings,
        effort=recipe.effort,
        workspace=recipe.workspace,
        builder=recipe.builder,
        step=workshop.step,
        deadline=deadline.instead_of(SECONDS[recipe.effort]),
        rehearsals=workshop.rehearsals,
    )
    feed = inputs.random(border.inputs, inputs.LADDER[0])
    together = [found for find in (couples.find, triples.find, means.find) for found in find(part, layers, able)]
    together += heads.find(part, layers, placed.places, able)
    with whole.timed(placed.places, border, feed, workshop.bench, workshop.device.l2_bytes) as timed:
        line, chosen = tuner.tune(layers, placed.places, timed, together)
    layers, implementations = [layer for layer, _ in line], [implementation for _, implementation in line]
    libraries = tactics.libraries(implementations, workshop.device)
    packing, l2_bytes = assemble.Packing(blobs), workshop.device.l2_bytes
    made = assemble.assemble(layers, implementations, placed.places, border, packing, libraries, l2_bytes)
    blob = blobs.add(f"programs/{label}.json", records.canonical(made.program))
    segment = Segment(
        executor="cuda",
        inputs=tuple(binding.name for binding in border.inputs),
        outputs=tuple(binding.name for binding in border.outputs),
        blob=blob,
        options={"blobs": list(made.blobs)},
    )
    return _Part(segment=segment, chosen=chosen, arena=made.arena, kernels=len(made.program.steps))


def _arena(parts: list[_Part]) -> Arena | None:
    """Of the largest device segment: each has a block of its own."""
    arenas = [part.arena for part in parts if part.arena is not None]
    return max(arenas, key=lambda arena: arena.bytes, default=None)


def require_right(built: Schedule, network: Network, recipe: Recipe, proof: Proof, blobs: Blobs) -> None:
    """Every layer was right by itself; here the whole is held against the untouched model.

    `network` has the schedule's shapes. Raises UnsupportedError naming the layers that lose it, where that shows.
    """
    if proof.reason:
        return
    kind = bounds.coarsest(network, recipe.arithmetic)

    def wrong(run: Reference) -> str:
        pairs = zip(proof.feeds, proof.expected, strict=True)
        return next((why for feed, wanted in pairs if (why := bounds.disagreement(run(feed), wanted, kind))), "")

    with trial.schedule_loaded(built, blobs) as run:
        why = wrong(run)
    if why:
        cause = causes.find(network, recipe, proof.feeds[0], lambda run: not wrong(run))
        raise UnsupportedError(
            f"Every layer is right by itself, and the whole network is not in {kind} arithmetic ({why}): "
            + (
                f"{cause}."
                if cause
                else "keep its delicate layers in fp32 (precision.keep), or build with --precision fp32."
            )
        )
