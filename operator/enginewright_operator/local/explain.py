"""`enginewright explain`: what a manifest would build, where, and why. It builds nothing and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enginewright_operator import api, gpu, gpu_words
from enginewright_operator.conditions import State, Verdict
from enginewright_operator.gpu import Node
from enginewright_operator.local.manifests import Manifests
from enginewright_operator.local.orders import Order
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One target. `order` is None where its class is not known; `nodes` is in words."""

    target: api.Target
    replicas: int
    order: Order | None
    nodes: str
    gpu: Verdict | None = None  # whether a node has its GPU; None where it needs none, or nobody knows

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        row: dict[str, Any] = {"gpuClass": self.target.gpu_class, "replicas": self.replicas, "nodes": self.nodes}
        if self.gpu is not None:
            row |= {"gpuAvailable": self.gpu.state is State.READY, "gpuMessage": self.gpu.message}
        if self.order is None:
            return row | {"known": False}
        return row | {
            "known": True,
            "digest": self.order.digest,
            "planURI": self.order.plan.spec.plan_uri,
            "exists": self.order.exists,
            "why": "" if self.order.exists else self.order.why,
            "product": self.order.recipe.target.product,
            "choice": self.order.choice,
            "recipe": records.to_json(self.order.recipe),
        }


def unknown(given: Manifests, target: api.Target) -> Row:
    """The row of a target whose class nobody here knows."""
    known = ", ".join(sorted(given.gpu_classes))
    return Row(
        target=target,
        replicas=given.engine.spec.replicas_on(target),
        order=None,
        nodes=f"not known: there is no GPUClass {target.gpu_class!r} in {given.path} or in a reachable cluster, only "
        f"{known}; `kubectl get gpuclasses` lists a cluster's",
    )


def nodes_in_words(spec: api.GPUClassSpec, nodes: Sequence[Node] | None) -> str:
    """The nodes of a class: those of the cluster by name, or the rule where there is no cluster (`nodes` is None)."""
    if nodes is None:
        rules = [str(each) for each in gpu.requirements(spec)]
        if spec.resource_name:
            rules.append(f"there is a {spec.resource_name} to have")
        if spec.claims:
            rules.append(f"there is {gpu_words.device_in_words(spec)} to claim")
        return "any node" if not rules else f"nodes where {', and '.join(rules)}"
    names = [node.name for node in nodes if gpu.matches(spec, node)]
    if not names:
        there = gpu_words.describe_products(nodes)
        return f"none of the cluster's {len(nodes)} nodes, which have these GPU products: {there}"
    return ", ".join(sorted(names))


def recipe_in_words(recipe: Recipe) -> list[tuple[str, str]]:
    """A recipe for a person: what, and its value."""
    gates = recipe.gates
    shapes = ["; ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in one.items()) for one in recipe.shapes]
    passes = []
    if gates.accuracy:
        passes.append(f"{gates.accuracy.metric} may drop by {gates.accuracy.max_drop:g}")
    if gates.latency:
        passes.append(f"p99 within {gates.latency.p99_ms:g} ms at batch {gates.latency.batch}")
    if gates.memory:
        passes.append(f"at most {gates.memory} bytes")
    words = [
        ("model", f"{recipe.model} ({recipe.format})"),
        ("product", recipe.target.product),
        ("driver", recipe.target.driver),
        ("outputs", ", ".join(recipe.outputs)),
        ("shapes", " | ".join(shapes)),
        ("batches", ", ".join(map(str, recipe.batch_sizes))),
        ("precision", ", ".join(recipe.precisions)),
        ("calibration", recipe.calibration),
        ("gates", ", ".join(passes) or "none"),
        ("effort", str(recipe.effort)),
        ("builder", recipe.builder),
    ]
    return [(name, value) for name, value in words if value]
