"""Where a step of a program points: the same step with its pointers replaced. Pure."""

from collections.abc import Callable
from dataclasses import replace

from enginewright_runtime.engine.cuda.program import Argument, CudnnGraph, Kernel, MatrixProduct, Pointer, Step

Move = Callable[[Pointer], Pointer]


def moved(step: Step, move: Move) -> Step:
    """The step with `move` of each of its pointers in that one's place."""
    if step.kernel is not None:
        return replace(step, kernel=_kernel(step.kernel, move))
    if step.cudnn is not None:
        return replace(step, cudnn=_graph(step.cudnn, move))
    if step.product is not None:
        return replace(step, product=_product(step.product, move))
    if step.fill is not None:
        return replace(step, fill=replace(step.fill, pointer=move(step.fill.pointer)))
    if step.copy is not None:
        return replace(step, copy=replace(step.copy, source=move(step.copy.source), target=move(step.copy.target)))
    raise AssertionError(f"a step of {step.layer} launches nothing")


def _kernel(kernel: Kernel, move: Move) -> Kernel:
    return replace(kernel, arguments=tuple(_argument(each, move) for each in kernel.arguments))


def _argument(argument: Argument, move: Move) -> Argument:
    if argument.pointer is not None:
        return replace(argument, pointer=move(argument.pointer))
    if argument.tensor_map is not None:
        described = replace(argument.tensor_map, pointer=move(argument.tensor_map.pointer))
        return replace(argument, tensor_map=described)
    return argument


def _graph(graph: CudnnGraph, move: Move) -> CudnnGraph:
    tensors = {uid: move(pointer) for uid, pointer in graph.tensors.items()}
    return replace(graph, tensors=tensors, workspace=None if graph.workspace is None else move(graph.workspace))


def _product(product: MatrixProduct, move: Move) -> MatrixProduct:
    return replace(
        product,
        a=move(product.a),
        b=move(product.b),
        c=move(product.c),
        d=move(product.d),
        bias=None if product.bias is None else move(product.bias),
        workspace=None if product.workspace is None else move(product.workspace),
    )
