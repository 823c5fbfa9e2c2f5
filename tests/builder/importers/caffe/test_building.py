"""A Caffe model from the command line to a plan that computes what OpenCV computes."""

import cv2
import numpy as np
import pytest
from caffe_files import header, layer, random

from enginewright_runtime import cli
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.plan.outcome import Outcome

SHAPE = (1, 3, 12, 12)
TEXT = header(SHAPE) + "".join(
    [
        layer("Convolution", "convolution_param { num_output: 8 kernel_size: 3 }", name="conv", tops="c"),
        layer("BatchNorm", name="norm", bottoms="c", tops="c"),
        layer("Scale", "scale_param { bias_term: true }", name="scale", bottoms="c", tops="c"),
        layer("ReLU", name="relu", bottoms="c", tops="c"),
        layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", name="pool", bottoms="c", tops="p"),
        layer("InnerProduct", "inner_product_param { num_output: 5 }", name="fc", bottoms="p", tops="f"),
        layer("Softmax", name="prob", bottoms="f", tops="prob"),
    ]
)
BLOBS = {
    "conv": [random(8, 3, 3, 3), random(8)],
    "norm": [random(8), random(8, low=1, high=2), np.float32([2])],
    "scale": [random(8), random(8)],
    "fc": [random(5, 200), random(5)],
}


@pytest.fixture
def files(save):
    return save(TEXT, BLOBS)


def test_a_plan_is_built_and_computes_what_opencv_does(files, tmp_path, capfd):
    prototxt, model = map(str, files)
    plan = tmp_path / "net.plan"
    words = ["build", model, "--prototxt", prototxt, "-o", str(plan), "--effort", "fast"]
    assert cli.main(words) == Outcome.DONE
    net = cv2.dnn.readNetFromCaffe(prototxt, model)
    net.setInput(random(*SHAPE))
    with Engine(plan) as engine:
        got = engine.infer({"x": random(*SHAPE)})["prob"]
    np.testing.assert_allclose(got, net.forward(), rtol=0, atol=1e-5)
    assert cli.main(["compare", model, str(plan), "--prototxt", prototxt]) == Outcome.DONE


def test_a_model_without_its_prototxt_asks_for_it(files, tmp_path, capfd):
    assert cli.main(["build", str(files[1]), "-o", str(tmp_path / "x.plan")]) == Outcome.USAGE
    assert f"The Caffe model {files[1]} needs its prototxt: give --prototxt" in capfd.readouterr().err


def test_what_is_wrong_with_the_prototxt_is_said_of_the_file_that_was_given(files, tmp_path, capfd):
    files[0].write_text("layer {")
    words = ["build", str(files[1]), "--prototxt", str(files[0]), "-o", str(tmp_path / "x.plan")]
    assert cli.main(words) == Outcome.BAD_MODEL
    assert f"The prototxt {files[0]} is not one that Caffe reads" in capfd.readouterr().err


def test_a_missing_prototxt_is_named(files, tmp_path, capfd):
    words = ["build", str(files[1]), "--prototxt", "no.prototxt", "-o", str(tmp_path / "x.plan")]
    assert cli.main(words) == Outcome.USAGE
    assert "The prototxt no.prototxt does not exist" in capfd.readouterr().err
