"""Programs from damaged or hostile plans: each is refused with the step, the layer and what does not fit."""

from dataclasses import replace
from typing import Any

import pytest

from enginewright_runtime.engine.cuda import validation
from enginewright_runtime.engine.cuda.program import (
    Argument,
    Copy,
    CudnnGraph,
    DeviceProgram,
    Fill,
    Im2col,
    Kernel,
    MatrixLayout,
    MatrixProduct,
    Pointer,
    Space,
    Step,
    Tensor,
    TensorMap,
)
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Segment

X = Tensor(name="x", dtype="float32", shape=(2, 8), bytes=64)
Y = Tensor(name="y", dtype="float16", shape=(16,), bytes=32)
ARENA = Pointer(space=Space.ARENA)
WEIGHTS = Pointer(space=Space.BLOB, name="w")
KERNEL = Kernel(cubin="k.cubin", function="f", grid=(4, 1, 1), block=(128, 1, 1), arguments=(Argument(pointer=ARENA),))
MAP = TensorMap(
    pointer=Pointer(space=Space.ARENA, offset=512), dtype="float16", dims=(64, 4), strides=(128,), box=(64, 4)
)
IM2COL = replace(
    MAP,
    dims=(8, 2, 2, 8),
    strides=(16, 32, 64),
    box=(),
    im2col=Im2col(lower=(-1, -1), upper=(-1, -1), channels=8, pixels=4),
)
LAYOUT = MatrixLayout(dtype="float16", rows=4, columns=4, leading=4)
PRODUCT = MatrixProduct(
    a=WEIGHTS, b=ARENA, c=ARENA, d=ARENA, a_layout=LAYOUT, b_layout=LAYOUT, c_layout=LAYOUT, d_layout=LAYOUT,
    compute="COMPUTE_32F", scale="float32", algorithm="00",
)  # fmt: skip
BLOBS = {"w": 100, "k.cubin": 10, "g": 5}


def program(*steps: Step, **changes: Any) -> DeviceProgram:
    return replace(DeviceProgram(inputs=(X,), outputs=(Y,), arena_bytes=1024, steps=steps), **changes)


def check(made: DeviceProgram) -> None:
    validation.check(made, what="the device segment 'p'", blob_bytes=BLOBS.get)


def refusal(made: DeviceProgram) -> str:
    with pytest.raises(PlanError) as caught:
        check(made)
    assert str(caught.value).endswith(": build the plan again.")
    return str(caught.value)


def kernel_step(**changes: Any) -> Step:
    return Step(layer="conv", kernel=replace(KERNEL, **changes))


def mapped(**changes: Any) -> Step:
    return kernel_step(arguments=(Argument(tensor_map=replace(MAP, **changes)),))


GOOD = (
    kernel_step(cluster=(2, 1, 1), shared_bytes=1 << 17, dependent=True),
    mapped(),
    kernel_step(arguments=(Argument(tensor_map=IM2COL), Argument(value="01000000"))),
    Step(layer="cudnn", cudnn=CudnnGraph(graph="g", tensors={"1": ARENA}, workspace=ARENA, workspace_bytes=1024)),
    Step(layer="product", product=PRODUCT),
    Step(layer="fill", fill=Fill(pointer=Pointer(space=Space.OUTPUT, name="y"), bytes=32)),
    Step(layer="copy", copy=Copy(source=WEIGHTS, target=ARENA, bytes=100)),
)


def test_a_program_of_every_step_holds_together() -> None:
    check(program(*GOOD))


def test_a_program_reads_back_as_it_was_written() -> None:
    made = program(*GOOD, libraries={"cudnn": "9.13.0"})
    text = records.canonical(made)
    assert records.from_json(DeviceProgram, records.parse(text, what="it"), what="it") == made


@pytest.mark.parametrize(
    ("pointer", "words"),
    [
        (Pointer(space=Space.ARENA, offset=1025), "points to offset 1025 of the arena, which has 1024 bytes"),
        (Pointer(space=Space.ARENA, offset=-1), "points to offset -1 of the arena"),
        (Pointer(space=Space.BLOB, name="v"), "points to the blob 'v', which there is not"),
        (Pointer(space=Space.INPUT, name="y"), "points to the input 'y', which there is not"),
        (Pointer(space=Space.OUTPUT, name="y", offset=33), "points to offset 33 of the output 'y', which has 32"),
        (Pointer(space=Space.OPERAND, name="0"), "points to the operand '0', which there is not"),
        (Pointer(space=Space.WORKSPACE), "points to the workspace '', which there is not"),
    ],
)
def test_a_pointer_outside_its_block_is_refused(pointer: Pointer, words: str) -> None:
    said = refusal(program(Step(layer="relu", kernel=KERNEL), kernel_step(arguments=(Argument(pointer=pointer),))))
    assert f"Step 1 of the device segment 'p' (layer 'conv') {words}" in said


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step(layer="a"), "must be exactly one of kernel"),
        (Step(layer="a", kernel=KERNEL, fill=Fill(pointer=ARENA, bytes=1)), "must be exactly one of kernel"),
        (kernel_step(cubin="x"), "names the cubin 'x', which is no blob"),
        (kernel_step(grid=(0, 1, 1)), r"has the grid [0, 1, 1], and it must be three numbers from 1 to"),
        (kernel_step(grid=(1, 65536, 1)), "has the grid [1, 65536, 1]"),
        (kernel_step(grid=(1, 1)), "has the grid [1, 1]"),
        (kernel_step(block=(1024, 2, 1)), "has a block of 2048 threads, and 1024 are the most"),
        (kernel_step(block=(1, 1, 65)), "has the block [1, 1, 65]"),
        (kernel_step(cluster=(3, 1, 1)), "has a grid of [4, 1, 1], which clusters of [3, 1, 1] do not divide"),
        (kernel_step(cluster=(8, 4, 1), grid=(8, 4, 1)), "has a cluster of 32 blocks, and 16 are the most"),
        (kernel_step(shared_bytes=-1), "wants -1 bytes of shared memory"),
        (kernel_step(shared_bytes=1 << 20), "wants 1048576 bytes of shared memory, and 232448 are the most"),
        (kernel_step(arguments=(Argument(),)), "has an argument 0 that is not exactly one of"),
        (kernel_step(arguments=(Argument(pointer=ARENA, value="00"),)), "has an argument 0 that is not exactly one of"),
        (kernel_step(arguments=(Argument(value="0g"),)), "has an argument 0 that is not hexadecimal"),
        (kernel_step(arguments=(Argument(value="00" * 40000),)), "has 40000 bytes of arguments, and 32764 are"),
        (mapped(dims=(0, 4)), "has an argument 0 whose tensor map no GPU takes"),
        (mapped(dims=(64,)), "whose tensor map no GPU takes"),
        (mapped(strides=(100,)), "whose tensor map no GPU takes"),
        (mapped(box=(257, 1)), "whose tensor map no GPU takes"),
        (mapped(swizzle=48), "whose tensor map no GPU takes"),
        (mapped(l2_promotion=1), "whose tensor map no GPU takes"),
        (mapped(dtype="complex64"), "whose tensor map no GPU takes"),
        (mapped(element_strides=(0, 1)), "whose tensor map no GPU takes"),
        (mapped(dims=(64, 5)), "points to 640 bytes at offset 512 of the arena, which has 1024 bytes"),
        (kernel_step(arguments=(Argument(tensor_map=replace(IM2COL, im2col=None)),)), "whose tensor map no GPU takes"),
        (Step(layer="a", cudnn=CudnnGraph(graph="h", tensors={})), "names the cuDNN graph 'h', which is no blob"),
        (
            Step(layer="a", cudnn=CudnnGraph(graph="g", tensors={}, workspace=ARENA, workspace_bytes=1025)),
            "points to 1025 bytes at offset 0 of the arena",
        ),
        (
            Step(layer="a", product=replace(PRODUCT, bias=Pointer(space=Space.BLOB, name="b"))),
            "points to the blob 'b', which there is not",
        ),
        (Step(layer="a", product=replace(PRODUCT, workspace=ARENA, workspace_bytes=2000)), "points to 2000 bytes"),
        (Step(layer="a", fill=Fill(pointer=ARENA, bytes=1025)), "points to 1025 bytes at offset 0 of the arena"),
        (Step(layer="a", fill=Fill(pointer=ARENA, bytes=-1)), "points to -1 bytes at offset 0"),
        (Step(layer="a", fill=Fill(pointer=ARENA, bytes=1, value=256)), "fills with 256, which is no byte"),
        (Step(layer="a", copy=Copy(source=WEIGHTS, target=ARENA, bytes=101)), "points to 101 bytes at offset 0 of the"),
        (
            Step(layer="a", copy=Copy(source=ARENA, target=Pointer(space=Space.OUTPUT, name="y", offset=1), bytes=32)),
            "points to 32 bytes at offset 1 of the output 'y'",
        ),
    ],
)
def test_a_step_that_no_gpu_takes_is_refused(step: Step, words: str) -> None:
    assert words in refusal(program(step))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "is of format 2, and this runtime reads 1"),
        ({"arena_bytes": -1}, "wants an arena of -1 bytes"),
        ({"arena_bytes": 1 << 50}, "wants an arena of"),
        ({"inputs": (X, X)}, "has two inputs named 'x'"),
        ({"inputs": (replace(X, bytes=60),)}, "gives the input 'x' 60 bytes, and float32 [2, 8] takes 64"),
        ({"inputs": (replace(X, shape=(-2, -8)),)}, "has the input 'x' of shape [-2, -8]"),
        ({"outputs": (replace(Y, dtype="string"),)}, "has the output 'y' of dtype 'string', which no GPU segment"),
        ({"outputs": (replace(Y, dtype="float7"),)}, "has the output 'y' of dtype 'float7'"),
    ],
)
def test_tensors_that_do_not_add_up_are_refused(changes: dict[str, Any], words: str) -> None:
    assert f"The program of the device segment 'p' {words}" in refusal(program(**changes))


def test_a_program_must_have_the_manifests_names() -> None:
    segment = Segment(executor="cuda", inputs=("x",), outputs=("z",), blob="p")
    with pytest.raises(PlanError, match=r"the inputs \['x'\] and outputs \['z'\], and its program has .*\['y'\]"):
        validation.check_segment(program(), segment)
