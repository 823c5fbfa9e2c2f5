"""Python of an engine's own: refused with one sentence until whoever installed the operator allows it, then served."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controlplane.cluster import ControlPlane
from engines.conftest import CHART
from engines.engine_case import EngineCase

from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection

pytestmark = pytest.mark.cluster

FILE = Path(__file__).resolve().parents[3] / "examples" / "plugins" / "layers.py"
MODEL_KEY, CODE_KEY = "own/model.onnx", "own/layers.py"
X = np.array([[-1.0, 0.0, 2.0]], np.float32)


@pytest.fixture
def allowed(operator: str, control_plane: ControlPlane) -> Callable[[], AbstractContextManager[None]]:
    """While the block runs, the operator allows plugins."""

    def upgrade(allow: str) -> None:
        where = ("--namespace", operator, "--reuse-values", "--wait", "--timeout=300s")
        control_plane.helm("upgrade", "enginewright", str(CHART), *where, "--set", f"plugins.allow={allow}")

    @contextmanager
    def block() -> Iterator[None]:
        upgrade("true")
        try:
            yield
        finally:
            upgrade("false")

    return block


def put_files(engine: EngineCase, folder: Path) -> None:
    """A model of one layer of its own, and that layer's code."""
    swish = collection.load([FILE])["com.example.Swish"]
    network = Network("own")
    (y,) = network.add_plugin(swish, [network.add_input("x", ("batch", 3))], {"beta": 2.0})
    network.mark_output(y, "y")
    network.save(folder / "own.onnx")
    for key, file in ((MODEL_KEY, folder / "own.onnx"), (CODE_KEY, FILE)):
        engine.client.put_object(Bucket=engine.bucket, Key=key, Body=file.read_bytes())


def answer(url: str) -> list[float]:
    body = {"inputs": [{"name": "x", "shape": list(X.shape), "datatype": "FP32", "data": X.ravel().tolist()}]}
    request = urllib.request.Request(f"{url}/v2/models/digits/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as answered:
        data: list[float] = json.load(answered)["outputs"][0]["data"]
    return data


def test_a_plugin_is_refused_until_the_operator_allows_it_then_built_and_served_and_what_serves_outlives_a_refusal(
    engine: EngineCase,
    allowed: Callable[[], AbstractContextManager[None]],
    service_proxy: Callable[..., Any],
    eventually: Callable[..., Any],
    tmp_path: Path,
) -> None:
    put_files(engine, tmp_path)
    code = f"s3://{engine.bucket}/{CODE_KEY}"
    manifest = engine.manifest(
        model={"uri": f"s3://{engine.bucket}/{MODEL_KEY}"}, build={"effort": "fast", "plugins": [code]}, batchSizes=[1]
    )
    del manifest["spec"]["gates"]  # of the digits
    engine.cluster.apply(manifest, engine.namespace)
    refusal = f"The engine brings code of its own ({code}), and this operator runs none: leave spec.build.plugins out"
    assert refusal in eventually(engine.stalled, 20)
    assert engine.objects("engineplan,job,deployment,pod") == []

    with allowed():
        plan = engine.becomes_ready()
        recipe = engine.plan(plan)["spec"]["recipe"]
        assert len(recipe["plugins"]) == 1, "another version of the code is another plan"
        with service_proxy(engine.namespace, engine.name) as proxy:
            np.testing.assert_allclose(answer(proxy.url), (X / (1 + np.exp(-2 * X))).ravel(), rtol=1e-5)
        pods = serving(engine)

    assert refusal in eventually(engine.stalled, 40)
    assert serving(engine) == pods
    with service_proxy(engine.namespace, engine.name) as proxy:
        assert len(answer(proxy.url)) == X.size


def serving(engine: EngineCase) -> list[str]:
    selector = "--selector=app.kubernetes.io/component=runtime"
    return engine.cluster.kubectl("get", "pods", "--namespace", engine.namespace, selector, "--output=name").split()
