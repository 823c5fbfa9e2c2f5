"""A long TopK becomes two layers of ours, which give what ONNX Runtime gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewright_builder.device import reference, stages
from enginewright_builder.device.expand_top_k import LONG, expand_top_k
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network


def model_of(extent: int, largest: int) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2,{extent},3] x) => (float[2,5,3] v, int64[2,5,3] n)
        <int64[1] k = {{5}}> {{ v, n = TopK<axis = 1, largest = {largest}>(x, k) }}"""
    )


def network_of(model: onnx.ModelProto, folder: Path) -> Network:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return from_onnx.load(path)


@pytest.mark.parametrize("largest", [0, 1])
def test_ranks_and_who_has_them_are_the_greatest_in_order(tmp_path, largest):
    model = model_of(LONG + 1, largest)
    x = np.random.default_rng(2).integers(0, 20, (2, LONG + 1, 3)).astype(np.float32)  # many are equal
    staged = stages.staged(network_of(model, tmp_path))
    assert len(staged.stages) == 3
    values: dict[str, Any] = {**staged.constants, "x": x}
    for stage in staged.stages:
        operands = [None if held is None else values[held.name] for held in stage.inputs]
        values[stage.output.name] = reference.evaluate(stage.computation, operands)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, wanted in zip("vn", session.run(None, {"x": x}), strict=True):
        np.testing.assert_array_equal(values[name], wanted)


def test_a_short_one_stays(tmp_path):
    assert expand_top_k(network_of(model_of(LONG - 1, 1), tmp_path)) == 0
