"""A small plan."""

from pathlib import Path

import pytest

from enginewright_runtime.plan import container
from enginewright_runtime.plan.manifest import Manifest, Schedule, Segment
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import Target, TargetKind, TargetRequirement


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan with one blob, not signed."""
    recipe = Recipe(model="sha256:a", target=TargetRequirement(kind=TargetKind.CPU), builder="0.1.0")
    segment = Segment(executor="host", inputs=(), outputs=(), blob="b")
    manifest = Manifest(
        recipe=recipe,
        digest=recipe.digest,
        target=Target(kind=TargetKind.CPU, architecture="x86_64"),
        builder="0.1.0",
        schedules=(Schedule(inputs=(), outputs=(), segments=(segment,)),),
        blobs=container.layout({"b": b"bytes"}),
    )
    container.write(tmp_path / "small.plan", manifest, {"b": b"bytes"})
    return tmp_path / "small.plan"
