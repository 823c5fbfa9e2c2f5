"""A small plan that has one of everything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from enginewright_runtime.plan import container, header
from enginewright_runtime.plan.manifest import (
    Arena,
    Binding,
    Golden,
    GoldenTensor,
    Manifest,
    Placement,
    Schedule,
    Segment,
)
from enginewright_runtime.plan.recipe import AccuracyGate, Gates, LatencyGate, Precision, PrecisionRule, Recipe
from enginewright_runtime.plan.target import Target, TargetKind, TargetRequirement

BLOBS = {"segments/0.onnx": b"a network", "weights/w": bytes(range(256)) * 3, "empty": b"", "golden/x": b"\x01" * 16}


def a_recipe() -> Recipe:
    """A recipe in which most fields are set."""
    return Recipe(
        model=f"sha256:{'a' * 64}",
        outputs=("probabilities",),
        shapes=({"image": (1, 1, 8, 8)}, {"image": (8, 1, 8, 8)}),
        precisions=(Precision.FP32, Precision.INT8),
        keep=(PrecisionRule(layers="head/*", precision=Precision.FP32),),
        gates=Gates(accuracy=AccuracyGate(data="sha256:b", max_drop=0.005), latency=LatencyGate(p99_ms=7.0)),
        target=TargetRequirement(kind=TargetKind.CPU, architecture="x86_64"),
        builder="0.1.0",
    )


def a_manifest(blobs: dict[str, bytes]) -> Manifest:
    """A manifest for these blobs, which must have the names of BLOBS."""
    image = Binding(name="image", dtype="float32", shape=(1, 1, 8, 8))
    answer = Binding(name="probabilities", dtype="float32", shape=(1, 10))
    segment = Segment(
        executor="host", inputs=("image",), outputs=("probabilities",), blob="segments/0.onnx", options={"threads": 2}
    )
    arena = Arena(
        bytes=512, sum_of_tensors=768, lower_bound=512, tensors={"t": Placement(offset=0, bytes=256, first=0, last=1)}
    )
    tensor = GoldenTensor(blob="golden/x", dtype="float32", shape=(4,))
    return Manifest(
        recipe=a_recipe(),
        digest=a_recipe().digest,
        target=Target(kind=TargetKind.CPU, architecture="x86_64", processors=2, libraries={"onnxruntime": "1.22.0"}),
        builder="0.1.0",
        schedules=(Schedule(inputs=(image,), outputs=(answer,), segments=(segment,), arena=arena),),
        blobs=container.layout(blobs),
        goldens=(
            Golden(
                schedule=0, inputs={"image": tensor}, outputs={"probabilities": tensor}, absolute=1e-5, relative=0.1
            ),
        ),
        report={"layers": [{"name": "conv", "milliseconds": 0.5}]},
    )


@pytest.fixture
def recipe() -> Recipe:
    """A recipe in which most fields are set."""
    return a_recipe()


@pytest.fixture
def blobs() -> dict[str, bytes]:
    """The blobs of the small plan."""
    return dict(BLOBS)


@pytest.fixture
def manifest(blobs: dict[str, bytes]) -> Manifest:
    """The manifest of the small plan."""
    return a_manifest(blobs)


@pytest.fixture
def plan(tmp_path: Path, manifest: Manifest, blobs: dict[str, bytes]) -> Path:
    """The small plan, written."""
    path = tmp_path / "small.plan"
    container.write(path, manifest, blobs)
    return path


@pytest.fixture
def with_manifest(plan: Path) -> Any:
    """Make the bytes of a plan whose manifest is another text, its lengths and digest made to fit."""
    from hashlib import sha256

    content = plan.read_bytes()
    *_, length, _, _ = header.HEADER.unpack_from(content)
    area = content[container._aligned(header.HEADER.size + length) :]

    def build(text: bytes) -> Path:
        base = container._aligned(header.HEADER.size + len(text))
        packed = header.HEADER.pack(header.MAGIC, 1, 0, len(text), base + len(area), sha256(text).digest())
        plan.write_bytes((packed + text).ljust(base, b"\0") + area)
        return plan

    return build


@pytest.fixture
def changed(manifest: Manifest) -> Any:
    """The small plan's manifest with some fields replaced."""
    return lambda **fields: replace(manifest, **fields)
