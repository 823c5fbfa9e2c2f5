"""Which product of a GPU class a plan is for: a plan is timed on one product, and loads on no other. Pure.

The choice is the same for the same nodes, and it stays: once a plan is for a product, it is left only when no node
that takes pods has it any more. So a GPU more or less, or a better product that joins, rebuilds nothing.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from enginewright_operator import gpu
from enginewright_operator.api import GPUClass, GPUClassSpec
from enginewright_runtime.plan.target import TargetKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The product that was chosen (empty where no GPU is needed), and why where there were others: `sentence`.

    `driver` is the branch of the oldest driver of its nodes; empty where it is not known.
    """

    product: str = ""
    driver: str = ""
    sentence: str = ""


def choose(gpu_class: GPUClass, nodes: Iterable[gpu.Node] | None, *, held: str = "") -> Choice | None:
    """The product for the next plan of the class; `held` is the one that its plan is for now.

    None where it cannot be told: a class that takes any product, and no node that has one (or nodes unknown: None).
    """
    spec = gpu_class.spec
    if spec.kind is TargetKind.CPU:
        return Choice()
    listed = gpu.products(spec)
    nodes = _open(spec, nodes or ())
    there = sum((gpu.offered(spec, node) for node in nodes), Counter[str]())
    if not there:
        product = held if held and (not listed or held in listed) else next(iter(listed), "")
        return Choice(product=product) if product else None
    if held in there:
        product, why = held, "its plan is for that already, and nodes have it"
    elif spec.product_labels is not None:
        product, why = next(each for each in listed if each in there), "the first in the class's list that a node has"
    else:
        product, why = min(there, key=lambda each: (-there[each], each)), "it has the most GPUs"
    driver = gpu.oldest_driver(node for node in nodes if product in gpu.offered(spec, node))
    if len(there) == 1:
        return Choice(product=product, driver=driver)
    counts = ", ".join(f"{each} ({there[each]})" for each in sorted(there))
    return Choice(
        product=product,
        driver=driver,
        sentence=f"Of the products of the GPUClass {gpu_class.metadata.name} that there are, with their GPUs, "
        f"{counts}, its plans are for {product}: {why}.",
    )


def _open(spec: GPUClassSpec, nodes: Iterable[gpu.Node]) -> list[gpu.Node]:
    """The nodes of the class that take pods; all of them where none does, which will not last."""
    found = [node for node in nodes if gpu.offered(spec, node)]
    return [node for node in found if not node.closed] or found


def only(gpu_class: GPUClass, product: str) -> GPUClass | None:
    """The class with this product alone, to which pods are pinned; None where the product is not of the class."""
    spec = gpu_class.spec
    if spec.kind is TargetKind.CPU:
        return None if product else gpu_class
    listed = gpu.products(spec)
    if not product or (listed and product not in listed):
        return None
    bare = {"mig_profile": None, "resource": None, "shared": False}  # labels without what is written behind them
    labels = gpu.products(spec.model_copy(update=bare)).get(product)
    return gpu_class.model_copy(update={"spec": spec.model_copy(update={"product": product, "product_labels": labels})})
