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


def test_every_layer_that_the_gpu_cannot_run_is_named_at_once_with_the_flag_to_give(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    ir.save(ir.from_onnx_text(TWO), path)
    network, blobs = from_onnx.load(path), Blobs()
    device = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
    workshop = Workshop(device=device, bench=None, timings=Timings(None), step=lambda _what: None)
    recipe = Recipe(model="m", target=TargetRequirement(kind=TargetKind.CUDA), builder="0")
    words = r"no kernel for 2 of the layers: NonZero '.+' \(.+\); Unique '.+' \(.+\): build with --allow-host"
    with planning.reference(network, blobs) as right, pytest.raises(UnsupportedError, match=words):
        schedule.schedule(
            index=0,
            network=network,
            shapes={"x": (4, 4)},
            samples=None,
            right=right,
            blobs=blobs,
            recipe=recipe,
            workshop=workshop,
            deadline=Deadline(),
        )
