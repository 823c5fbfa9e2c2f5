"""The committed example is what its README says: a real, accurate, unfused ONNX model with images it never saw."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
MODEL = DIGITS / "model.onnx"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(MODEL)


@pytest.fixture(scope="module")
def calibration() -> dict[str, np.ndarray]:
    return dict(np.load(DIGITS / "calibration.npz", allow_pickle=False))


@pytest.fixture(scope="module")
def held_out() -> dict[str, np.ndarray]:
    return dict(np.load(DIGITS / "test.npz", allow_pickle=False))


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def test_the_model_passes_the_full_check(model):
    onnx.checker.check_model(model, full_check=True)


def test_the_model_is_under_500_kilobytes():
    assert MODEL.stat().st_size < 500_000


def test_the_opset_is_one_that_older_runtimes_take(model):
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 21)]


def test_the_model_leaves_every_pass_something_to_do(model):
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators == {
        "Constant": 2,  # constant folding
        "Div": 1,
        "Mul": 1,
        "Conv": 5,
        "BatchNormalization": 5,  # batch norm into weights
        "Relu": 5,
        "Add": 1,  # the residual
        "MaxPool": 1,
        "Concat": 1,
        "AveragePool": 1,
        "Flatten": 1,
        "Dropout": 1,  # no-op layers
        "Gemm": 1,
        "Softmax": 1,
    }


def test_the_batch_norms_hold_statistics_of_real_images(model):
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    for node in norms:
        _, _, _, mean, variance = (weights.get(name) for name in node.input)
        assert np.all(variance > 0)
        assert not np.allclose(mean, 0)
        assert not np.allclose(variance, 1)


def test_input_and_output_have_the_promised_names_types_and_shapes(session):
    (image,), (probabilities,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 1, 8, 8])
    assert (probabilities.name, probabilities.type, probabilities.shape) == (
        "probabilities",
        "tensor(float)",
        ["batch", 10],
    )


def test_at_least_98_percent_of_the_held_out_images_are_right(session, held_out):
    (probabilities,) = session.run(None, {"image": held_out["image"]})
    assert (probabilities.argmax(axis=1) == held_out["labels"]).mean() >= 0.98


def test_probabilities_are_positive_and_sum_to_one(session, held_out):
    (probabilities,) = session.run(None, {"image": held_out["image"][:8]})
    assert np.all(probabilities >= 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_one_image_gets_the_same_answer_alone_and_in_a_batch(session, held_out):
    (together,) = session.run(None, {"image": held_out["image"][:8]})
    (alone,) = session.run(None, {"image": held_out["image"][3:4]})
    np.testing.assert_allclose(alone[0], together[3], atol=1e-6)


def test_the_image_files_hold_raw_pixels_of_the_promised_shape(calibration, held_out):
    assert calibration.keys() == {"image"}
    assert held_out.keys() == {"image", "labels"}
    for image, count in [(calibration["image"], 128), (held_out["image"], 540)]:
        assert (image.dtype, image.shape) == (np.float32, (count, 1, 8, 8))
        assert (image.min(), image.max()) == (0, 16)
    assert (held_out["labels"].dtype, held_out["labels"].shape) == (np.int64, (540,))


def test_every_digit_is_held_out_about_equally_often(held_out):
    counts = np.bincount(held_out["labels"], minlength=10)
    assert counts.min() >= 50
    assert counts.max() <= 58


def test_calibration_and_test_share_no_image(calibration, held_out):
    def fingerprints(images: np.ndarray) -> set[bytes]:
        return {image.tobytes() for image in images}

    assert fingerprints(calibration["image"]).isdisjoint(fingerprints(held_out["image"]))


def test_the_manifest_names_files_that_are_there():
    manifest = yaml.safe_load((DIGITS / "manifest.yaml").read_text())
    spec = manifest["spec"]
    for uri in (spec["model"]["uri"], spec["gates"]["accuracy"]["data"]):
        assert (DIGITS / uri).is_file(), uri
