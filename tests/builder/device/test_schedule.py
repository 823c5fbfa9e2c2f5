"""What a GPU cannot run is said before anything is compiled or measured, and no GPU is needed to say it."""

from pathlib import Path

import onnx_ir as ir
import pytest

from enginewright_builder import planning
from enginewright_builder.device import schedule
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.schedule import Workshop
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import from_onnx
from enginewright_builder.planning import Built
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.timings import Timings
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

TWO = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[4, 4] x) => (int64[2, n] places, float[m] different, float[4, 4] y)
{
    y = Relu (x)
    places = NonZero (x)
    different = Unique (x)
}
"""

CONTROL = """
<ir_version: 8, opset_import: ["" : 17]>
control (bool flag, int64 count, float[4, 4] x) => (float[4, 4] y, float[4, 4] z)
<bool go = {1}>
{
    y = If (flag) <
        then_branch = yes () => (float[4, 4] a) { a = Relu (x) },
        else_branch = no () => (float[4, 4] b) { b = Neg (x) }
    >
    z = Loop (count, go, x) <
        body = again (int64 i, bool before, float[4, 4] state) => (bool after, float[4, 4] next) {
            after = Identity (before)
            next = Sin (state)
        }
    >
}
"""
HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)


def scheduled(text: str, path: Path, **more: bool) -> Built:
    """The schedule of a network whose layers all run on the host: nobody is asked to run or time a kernel."""
    ir.save(ir.from_onnx_text(text), path)
    network, blobs = from_onnx.load(path), Blobs()
    workshop = Workshop(device=HOPPER, bench=None, timings=Timings(None), step=lambda _what: None)
    recipe = Recipe(model="m", target=TargetRequirement(kind=TargetKind.CUDA), builder="0", **more)
    shapes = {value.name: tuple(value.shape) for value in network.inputs if isinstance(value.type, ir.TensorType)}
    with planning.reference(network, blobs) as right:
        return schedule.schedule(
            index=0, network=network, shapes=shapes, samples=None, right=right, blobs=blobs, recipe=recipe,
            workshop=workshop, deadline=Deadline(),
        )  # fmt: skip


def test_control_flow_on_a_gpu_is_refused_naming_all_of_it(tmp_path: Path) -> None:
    words = r"no kernel for 2 of the layers: If '.+' \(.+\); Loop '.+' \(.+\): build with --allow-host"
    with pytest.raises(UnsupportedError, match=words):
        scheduled(CONTROL, tmp_path / "control.onnx")


def test_control_flow_becomes_a_host_segment_where_that_is_allowed(tmp_path: Path) -> None:
    (segment,) = scheduled(CONTROL, tmp_path / "control.onnx", allow_host=True).schedule.segments
    assert segment.executor == "host"
    assert set(segment.outputs) == {"y", "z"}


def test_every_layer_that_the_gpu_cannot_run_is_named_at_once_with_the_flag_to_give(tmp_path: Path) -> None:
    words = r"no kernel for 2 of the layers: NonZero '.+' \(.+\); Unique '.+' \(.+\): build with --allow-host"
    with pytest.raises(UnsupportedError, match=words):
        scheduled(TWO, tmp_path / "two.onnx")


OPTIONAL = """
<ir_version: 8, opset_import: ["" : 16]>
handed (optional(float[4]) x) => (optional(float[4]) y)
{
    y = Identity (x)
}
"""


def test_what_is_no_tensor_has_no_place_on_the_device(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"Identity '.+' \('[xy]' is no tensor"):
        scheduled(OPTIONAL, tmp_path / "handed.onnx")
