"""A normalization of wide groups becomes two layers of ours, which give what ONNX Runtime gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from enginewright_builder.device import reference, stages
from enginewright_builder.device.expand_group_norm import expand_group_norm
from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network


def model_of(groups: int, dtype: str = "float") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        agraph ({dtype}[2,24,5] x, {dtype}[24] s, {dtype}[24] b) => ({dtype}[2,24,5] y)
        {{ y = GroupNormalization<num_groups = {groups}, epsilon = 0.01>(x, s, b) }}"""
    )


def network_of(model: onnx.ModelProto, folder: Path) -> Network:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return from_onnx.load(path)


@pytest.mark.parametrize(("dtype", "precision"), [("float", 1e-5), ("float16", 4e-3)])
def test_wide_groups_have_their_moments_computed_once(tmp_path, dtype, precision):
    model = model_of(3, dtype)
    generator = np.random.default_rng(2)
    kind = np.float32 if dtype == "float" else np.float16
    values: dict[str, Any] = {
        name: generator.standard_normal(shape).astype(kind) for name, shape in (("x", (2, 24, 5)), ("s", 24), ("b", 24))
    }
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, values)
    staged = stages.staged(network_of(model, tmp_path))
    assert [stage.output.shape for stage in staged.stages] == [(2, 3), (2, 3), (2, 24, 5)]
    values |= staged.constants
    for stage in staged.stages:
        operands = [None if held is None else values[held.name] for held in stage.inputs]
        values[stage.output.name] = reference.evaluate(stage.computation, operands)
    np.testing.assert_allclose(values["y"], wanted, rtol=precision, atol=precision)


def test_narrow_groups_stay(tmp_path):
    assert expand_group_norm(network_of(model_of(6), tmp_path)) == 0
