"""What the tests of passes share: a network from ONNX's text form, and the law that its outputs stay."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.importers import from_onnx
from enginewright_builder.network import lowering, text
from enginewright_builder.network.network import Network
from enginewright_builder.passes.base import Pass, PassReport

Array = np.ndarray[Any, Any]


def outputs_of(model: bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """ONNX Runtime without its own optimizations: what is right."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    results: list[Array] = session.run(None, dict(feeds))
    return results


def some_feeds(network: Network) -> dict[str, Array]:
    """The same numbers every time; free dimensions are 2."""
    generator = np.random.default_rng(7)
    feeds = {}
    for value in network.inputs:
        shape = [d if isinstance(d, int) else 2 for d in value.shape or ()]
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        numbers = generator.standard_normal(shape) if dtype.kind == "f" else generator.integers(0, 2, shape)
        feeds[value.name or ""] = np.asarray(numbers).astype(dtype)
    return feeds


@pytest.fixture
def network_of(tmp_path: Path) -> Callable[..., Network]:
    """A network from a model, or one in ONNX's text form (onnx.parser), with further constants by name."""

    def load(source: str | onnx.ModelProto, **constants: Array) -> Network:
        model = onnx.parser.parse_model(source) if isinstance(source, str) else source
        for name, array in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return from_onnx.load(path)

    return load


@pytest.fixture
def applied() -> Callable[[Pass, Network], PassReport]:
    """Apply a pass and hold it to the law: the same inputs, the same outputs by name, type, shape and value."""

    def apply(each: Pass, network: Network) -> PassReport:
        names = [[value.name for value in values] for values in (network.inputs, network.outputs)]
        feeds = some_feeds(network)
        before = outputs_of(ir.to_proto(lowering.to_onnx(network)).SerializeToString(), feeds)
        report = each.apply(network)
        assert [[value.name for value in values] for values in (network.inputs, network.outputs)] == names
        for contrib in (False, True):
            lowered = ir.to_proto(lowering.to_onnx(network, contrib=contrib))
            onnx.checker.check_model(lowered)
            for want, got in zip(before, outputs_of(lowered.SerializeToString(), feeds), strict=True):
                assert got.dtype == want.dtype
                assert got.shape == want.shape
                bound = 1e-5 * max(1.0, float(np.max(np.abs(want), initial=0))) if want.dtype.kind == "f" else 0
                np.testing.assert_allclose(got, want, rtol=1e-4 if bound else 0, atol=bound)
        return report

    return apply


@pytest.fixture
def near() -> Callable[[Pass, Network], PassReport]:
    """Apply a pass that rounds, and hold it to names, types, shapes, and values to a hundredth of their range."""

    def apply(each: Pass, network: Network) -> PassReport:
        before = [(value.name, value.dtype) for value in (*network.inputs, *network.outputs)]
        feeds = some_feeds(network)
        wanted = outputs_of(ir.to_proto(lowering.to_onnx(network)).SerializeToString(), feeds)
        report = each.apply(network)
        assert [(value.name, value.dtype) for value in (*network.inputs, *network.outputs)] == before
        lowered = ir.to_proto(lowering.to_onnx(network))
        onnx.checker.check_model(lowered, full_check=True)
        for want, got in zip(wanted, outputs_of(lowered.SerializeToString(), feeds), strict=True):
            assert (got.dtype, got.shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-2 * float(np.ptp(want)))
        return report

    return apply


@pytest.fixture
def layer_lines() -> Callable[[Network], list[str]]:
    """The text of a network without its head and constants, for goldens."""

    def lines(network: Network) -> list[str]:
        skipped = ("network ", "constant ", "input ", "output ")
        return [line for line in text.to_text(network).splitlines() if not line.startswith(skipped)]

    return lines
