"""The walk: VGG19 written with the API, saved, built, and run; what the engine gives is what ONNX Runtime gives."""

import numpy as np
import onnxruntime
from networks.vgg19 import vgg19

from enginewright_builder import commands
from enginewright_runtime.engine.engine import Engine


def test_a_network_that_was_written_is_built_and_answers(tmp_path):
    model, plan = tmp_path / "vgg19.onnx", tmp_path / "vgg19.plan"
    vgg19(size=32, thin=16).save(model)
    commands.build(model, plan, batch="1,2", effort="fast")
    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": images})
    with Engine(PLAN=plan, postprocessors={"probabilities": lambda p: p.argmax(axis=1)}) as engine:
        assert list(engine.infer(images)["probabilities"]) == list(wanted.argmax(axis=1))
    with Engine(plan) as engine:
        np.testing.assert_allclose(engine.infer(images)["probabilities"], wanted, rtol=1e-3, atol=1e-6)
