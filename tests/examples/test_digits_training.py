"""The training code does what it says: right gradients, a loss that falls, an export that computes the same."""

import numpy as np
import onnx
import onnxruntime
import pytest

LAYERS = {
    "rescale": lambda n, rng: n.Rescale(maximum=16),
    "convolution 3x3": lambda n, rng: n.Convolution(3, 2, kernel=3, rng=rng),
    "convolution 1x1": lambda n, rng: n.Convolution(3, 2, kernel=1, rng=rng),
    "batch norm": lambda n, rng: n.BatchNorm(3),
    "relu": lambda n, rng: n.Relu(),
    "max pool": lambda n, rng: n.MaxPool(),
    "average pool": lambda n, rng: n.AveragePool(),
    "flatten": lambda n, rng: n.Flatten(),
    "dense": lambda n, rng: n.Sequential(flatten=n.Flatten(), dense=n.Dense(48, 5, rng=rng)),
    "residual": lambda n, rng: n.Residual(n.Sequential(c=n.Convolution(3, 3, kernel=3, rng=rng), relu=n.Relu())),
    "branches": lambda n, rng: n.Branches(
        a=n.Sequential(c=n.Convolution(3, 2, kernel=1, rng=rng)),
        b=n.Sequential(c=n.Convolution(3, 4, kernel=3, rng=rng), relu=n.Relu()),
    ),
}


def slope(loss, tensor: np.ndarray) -> np.ndarray:
    """d loss() / d tensor by central differences; `tensor` is changed in place and restored."""
    step = 1e-6
    result = np.empty_like(tensor)
    for index in np.ndindex(tensor.shape):
        value = tensor[index]
        tensor[index] = value + step
        above = loss()
        tensor[index] = value - step
        below = loss()
        tensor[index] = value
        result[index] = (above - below) / (2 * step)
    return result


@pytest.mark.parametrize("name", LAYERS)
def test_backward_gives_the_slope_of_forward(digits, name):
    rng = np.random.default_rng(0)
    layer = LAYERS[name](digits.layers, rng)
    for parameter in layer.parameters():
        # Random, so that a scale of one or a bias of zero hides nothing; float64, so that small differences count.
        parameter.value = rng.normal(size=parameter.value.shape)
    x = rng.normal(size=(2, 3, 4, 4))
    direction = rng.normal(size=layer.forward(x, training=True).shape)

    def loss() -> float:
        return float((layer.forward(x, training=True) * direction).sum())

    loss()
    gradient = layer.backward(direction)

    np.testing.assert_allclose(gradient, slope(loss, x), rtol=1e-5, atol=1e-7)
    for parameter in layer.parameters():
        np.testing.assert_allclose(parameter.gradient, slope(loss, parameter.value), rtol=1e-5, atol=1e-7)


def test_the_gradient_of_cross_entropy_is_its_slope(digits):
    logits, labels = np.random.default_rng(0).normal(size=(4, 10)), np.array([3, 0, 9, 3])
    _, gradient = digits.network.cross_entropy(logits, labels)
    expected = slope(lambda: digits.network.cross_entropy(logits, labels)[0], logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


def test_dropout_passes_the_gradient_of_what_it_kept(digits):
    dropout = digits.layers.Dropout(0.5, rng=np.random.default_rng(0))
    x = np.ones((4, 100), np.float32)
    y = dropout.forward(x, training=True)
    assert set(np.unique(y)) == {0, 2}
    np.testing.assert_array_equal(dropout.backward(x), y)


def test_dropout_does_nothing_after_training(digits):
    x = np.ones((4, 100), np.float32)
    assert digits.layers.Dropout(0.5, rng=np.random.default_rng(0)).forward(x, training=False) is x


def test_equal_maxima_share_the_gradient(digits):
    pool = digits.layers.MaxPool()
    pool.forward(np.array([[1.0, 1.0], [0.0, 1.0]]).reshape(1, 1, 2, 2), training=True)
    shared = pool.backward(np.array(3.0).reshape(1, 1, 1, 1))
    np.testing.assert_allclose(shared.reshape(2, 2), [[1, 1], [0, 1]])


def test_shifting_moves_a_dot_by_less_than_a_pixel_either_way(digits):
    dots = np.zeros((200, 1, 5, 5), np.float32)
    dots[:, 0, 2, 2] = 16
    moved = digits.train.shifted(dots, np.random.default_rng(0))[:, 0] / 16
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1, rtol=1e-5)  # no ink is lost
    down = moved.sum(axis=2) @ np.arange(-2, 3)
    right = moved.sum(axis=1) @ np.arange(-2, 3)
    for way in (down, right):
        assert -1 <= way.min() < -0.9
        assert 0.9 < way.max() <= 1
        assert abs(way.mean()) < 0.15
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.2  # the two ways are drawn apart


def test_shifting_brings_background_in_at_the_border(digits):
    moved = digits.train.shifted(np.ones((50, 1, 4, 4), np.float32), np.random.default_rng(0))
    np.testing.assert_allclose(moved[:, :, 1:-1, 1:-1], 1, rtol=1e-5)
    border = moved.sum(axis=(1, 2, 3)) - moved[:, :, 1:-1, 1:-1].sum(axis=(1, 2, 3))
    assert np.all(border < 12)


def test_the_split_keeps_training_and_held_out_images_apart(digits):
    training, held_out = digits.train.split()
    assert (len(training.images), len(held_out.images)) == (1257, 540)
    seen = {image.tobytes() for image in training.images}
    assert seen.isdisjoint(image.tobytes() for image in held_out.images)


def test_the_committed_test_images_are_the_held_out_ones(digits):
    _, held_out = digits.train.split()
    committed = np.load(digits.train.HERE / "test.npz", allow_pickle=False)
    np.testing.assert_array_equal(committed["image"], held_out.images)
    np.testing.assert_array_equal(committed["labels"], held_out.labels)


def test_the_committed_calibration_images_come_from_the_training_split(digits):
    training, _ = digits.train.split()
    committed = np.load(digits.train.HERE / "calibration.npz", allow_pickle=False)
    np.testing.assert_array_equal(committed["image"], training.images[: len(committed["image"])])


def test_an_epoch_lowers_the_loss_of_the_one_before(digits):
    rng = np.random.default_rng(0)
    training, _ = digits.train.split()
    some = digits.train.Digits(images=training.images[:256], labels=training.labels[:256])
    first, second = digits.train.train(digits.network.digits_network(rng), some, epochs=2, rng=rng)
    assert second < first < np.log(10) * 1.5


def test_the_exported_model_computes_what_the_network_computes(digits, tmp_path):
    rng = np.random.default_rng(0)
    net = digits.network.digits_network(rng)
    images = rng.uniform(0, 16, (4, 1, 8, 8)).astype(np.float32)
    net.forward(images, training=True)  # moves the running statistics away from 0 and 1
    expected = digits.network.softmax(net.forward(images, training=False))

    digits.export.write(net, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])

    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, rtol=1e-4, atol=1e-6)


def test_a_layer_without_an_onnx_form_is_named(digits, tmp_path):
    class Unknown(digits.layers.Layer):
        pass

    net = digits.layers.Sequential(tail=digits.layers.Sequential(odd=Unknown()))
    with pytest.raises(TypeError, match="tail/odd: there is no ONNX form for a layer of type Unknown"):
        digits.export.write(net, tmp_path / "model.onnx")


def test_a_network_under_the_required_accuracy_is_not_written(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(digits.train, "EPOCHS", 0)
    monkeypatch.setattr(digits.train, "HERE", tmp_path)
    with pytest.raises(SystemExit, match=r"model\.onnx is not written"):
        digits.train.main()
    assert list(tmp_path.iterdir()) == []


def test_nodes_are_named_by_their_path_in_the_network(digits, tmp_path):
    net = digits.network.digits_network(np.random.default_rng(0))
    digits.export.write(net, tmp_path / "model.onnx")
    names = [node.name for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert {"stem/convolution", "residual/add", "branches/coarse/relu", "head", "probabilities"} <= set(names)
