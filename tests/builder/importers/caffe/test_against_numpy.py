"""What OpenCV does not read, or reads otherwise than Caffe, against the layer's definition in NumPy."""

import itertools

import numpy as np
import pytest
from caffe_files import header, layer, random

SHAPE = (2, 4, 5, 6)
X = random(*SHAPE)
WINDOWS = [each for each in itertools.product((2, 3, 4), (1, 2, 3), (0, 1)) if each != (2, 3, 0)]  # one would be empty


def one(kind, parameters="", shape=SHAPE):
    return header(shape) + layer(kind, parameters)


def close(got, wanted):
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_lrn_adds_k(imported):
    got = imported(one("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }"), feeds={"x": X})
    padded = np.pad(np.square(X), [(0, 0), (1, 1), (0, 0), (0, 0)])
    sums = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    close(got["y"], X / (2 + 0.5 / 3 * sums) ** 0.6)


def test_lrn_within_a_channel_ignores_k(imported):
    got = imported(one("LRN", "lrn_param { local_size: 3 k: 9 norm_region: WITHIN_CHANNEL }"), feeds={"x": X})
    same = imported(one("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"), feeds={"x": X})
    close(got["y"], same["y"])


def test_concat_takes_the_old_concat_dim(imported):
    text = header(SHAPE, SHAPE) + layer("Concat", "concat_param { concat_dim: 2 }", bottoms="x x1")
    close(imported(text, feeds={"x": X, "x1": -X})["y"], np.concatenate([X, -X], axis=2))


def test_slice_takes_the_old_slice_dim_and_cuts_evenly(imported):
    text = header(SHAPE) + layer("Slice", "slice_param { slice_dim: 3 }", tops="a b c")
    got = imported(text, feeds={"x": X})
    for name, piece in zip("abc", np.split(X, 3, axis=3), strict=True):
        close(got[name], piece)


def test_bias_adds_along_its_axes(imported):
    text = one("Bias", "bias_param { axis: 1 num_axes: 2 }")
    close(imported(text, {"y": [random(4, 5)]}, {"x": X})["y"], X + random(4, 5)[..., None])


def test_bias_takes_a_second_blob(imported):
    text = header(SHAPE, (2, 4)) + layer("Bias", "bias_param { axis: 0 }", bottoms="x x1")
    close(imported(text, feeds={"x": X, "x1": random(2, 4)})["y"], X + random(2, 4)[..., None, None])


def test_scale_by_a_second_blob_keeps_its_own_bias(imported):
    text = header(SHAPE, (4,)) + layer("Scale", "scale_param { bias_term: true }", bottoms="x x1")
    got = imported(text, {"y": [random(4)]}, {"x": X, "x1": random(4, low=2, high=3)})
    column = (slice(None), None, None)
    close(got["y"], X * random(4, low=2, high=3)[column] + random(4)[column])


def test_scale_by_a_scalar(imported):
    close(imported(one("Scale", "scale_param { num_axes: 0 }"), {"y": [np.float32(3)]}, {"x": X})["y"], 3 * X)


def test_tile_repeats_one_axis(imported):
    close(imported(one("Tile", "tile_param { axis: 2 tiles: 3 }"), feeds={"x": X})["y"], np.tile(X, (1, 1, 3, 1)))


def test_log_of_a_base(imported):
    got = imported(one("Log", "log_param { base: 10 scale: 2 shift: 3 }"), feeds={"x": X})
    close(got["y"], np.log10(2 * X + 3))


def test_power_of_nothing_is_one(imported):
    close(imported(one("Power", "power_param { power: 0 }"), feeds={"x": X})["y"], np.ones_like(X))


def test_threshold_is_a_step(imported):
    close(imported(one("Threshold", "threshold_param { threshold: 0.3 }"), feeds={"x": X})["y"], np.float32(X > 0.3))


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ("SUM", X.sum((2, 3))),
        ("ASUM", np.abs(X).sum((2, 3))),
        ("SUMSQ", np.square(X).sum((2, 3))),
        ("MEAN", X.mean((2, 3))),
    ],
)
def test_reduction_is_of_all_axes_from_one_on(imported, operation, wanted):
    got = imported(one("Reduction", f"reduction_param {{ operation: {operation} axis: -2 coeff: 2 }}"), feeds={"x": X})
    close(got["y"], 2 * wanted)


def test_reduction_of_all_is_a_scalar(imported):
    close(imported(one("Reduction"), feeds={"x": X})["y"], X.sum())


def test_embed_looks_rows_up(imported):
    text = one("Embed", "embed_param { num_output: 3 input_dim: 7 }", (2, 5))
    rows = np.float32([[0, 6, 3, 1, 1], [2, 2, 5, 4, 0]])
    got = imported(text, {"y": [random(7, 3), random(3)]}, {"x": rows})
    close(got["y"], random(7, 3)[rows.astype(int)] + random(3))


def test_inner_product_of_transposed_weights(imported):
    text = one("InnerProduct", "inner_product_param { num_output: 3 transpose: true }")
    got = imported(text, {"y": [random(120, 3), random(3)]}, {"x": X})
    close(got["y"], X.reshape(2, 120) @ random(120, 3) + random(3))


@pytest.mark.parametrize("transposed", [False, True])
def test_inner_product_from_a_later_axis(imported, transposed):
    text = one("InnerProduct", f"inner_product_param {{ num_output: 3 axis: 2 transpose: {str(transposed).lower()} }}")
    weights = random(30, 3) if transposed else random(3, 30)
    got = imported(text, {"y": [weights, random(3)]}, {"x": X})
    close(got["y"], X.reshape(2, 4, 30) @ (weights if transposed else weights.T) + random(3))


def test_argmax_of_everything_behind_the_first_axis(imported):
    got = imported(one("ArgMax", "argmax_param { top_k: 2 out_max_val: true }"), feeds={"x": X})["y"]
    rows = X.reshape(2, -1)
    order = np.argsort(-rows, axis=1)[:, :2]
    close(got, np.float32(np.stack([order, np.take_along_axis(rows, order, 1)], axis=1))[..., None])


def test_argmax_along_an_axis_gives_places(imported):
    got = imported(one("ArgMax", "argmax_param { axis: 1 }"), feeds={"x": X})["y"]
    close(got, np.float32(X.argmax(1, keepdims=True)))


def test_argmax_along_an_axis_gives_the_numbers_if_asked(imported):
    got = imported(one("ArgMax", "argmax_param { axis: 1 out_max_val: true }"), feeds={"x": X})["y"]
    close(got, X.max(1, keepdims=True))


def test_argmax_takes_the_later_of_equal_ones(imported):
    rows = np.float32([[1, 3, 3, 2]])
    got = imported(one("ArgMax", "argmax_param { top_k: 3 }", (1, 4)), feeds={"x": rows})["y"]
    close(got, np.float32([[[2, 1, 3]]]))


def test_upsample_makes_each_pixel_a_square(imported):
    got = imported(one("Upsample", "upsample_param { scale: 3 }"), feeds={"x": X})["y"]
    close(got, X.repeat(3, axis=2).repeat(3, axis=3))


def test_upsample_by_a_mask_puts_what_was_pooled_back(imported):
    text = header((2, 4, 6, 6)) + layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops="p m", name="p")
    text += layer("Upsample", "upsample_param { scale: 2 }", bottoms="p m")
    x = random(2, 4, 6, 6)
    blocks = x.reshape(2, 4, 3, 2, 3, 2)
    wanted = np.where(blocks == blocks.max((3, 5), keepdims=True), blocks, 0).reshape(x.shape)
    close(imported(text, feeds={"x": x})["y"], wanted)


def test_a_pooling_mask_is_the_place_in_the_image(imported):
    text = header((2, 2, 4, 4)) + layer("Pooling", "pooling_param { kernel_size: 4 }", tops="p m")
    x = random(2, 2, 4, 4)
    close(imported(text, feeds={"x": x})["m"], np.float32(x.reshape(2, 2, 16).argmax(2))[..., None, None])


@pytest.mark.parametrize(("kernel", "stride", "pad"), WINDOWS)
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_pooling_is_caffes_loop(imported, pool, kernel, stride, pad):
    got = imported(
        one("Pooling", f"pooling_param {{ pool: {pool} kernel_size: {kernel} stride: {stride} pad: {pad} }}"),
        feeds={"x": X},
    )["y"]
    close(got, pooled(X, pool, kernel, stride, pad))


def pooled(x, pool, kernel, stride, pad):
    """PoolingLayer::Forward_cpu, in its own words."""
    sizes = []
    for size in x.shape[2:]:
        count = int(np.ceil((size + 2 * pad - kernel) / stride)) + 1
        sizes.append(count - (pad > 0 and (count - 1) * stride >= size + pad))
    out = np.zeros((*x.shape[:2], *sizes), np.float32)
    height, width = x.shape[2:]
    for row, column in np.ndindex(*sizes):
        top, left = row * stride - pad, column * stride - pad
        bottom, right = min(top + kernel, height + pad), min(left + kernel, width + pad)
        area = (bottom - top) * (right - left)
        window = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        out[:, :, row, column] = window.max((2, 3)) if pool == "MAX" else window.sum((2, 3)) / area
    return out


def test_batch_norm_of_nvidias_fork_scales(imported):
    blobs = [random(4), random(4, low=1, high=2), np.float32([1]), random(4), random(4)]
    got = imported(one("BatchNorm", "batch_norm_param { scale_bias: true }"), {"y": blobs}, {"x": X})["y"]
    mean, variance, _, scale, bias = (blob.reshape(-1, 1, 1) for blob in blobs)
    close(got, (X - mean) / np.sqrt(variance + 1e-5) * scale + bias)


def test_batch_norm_that_saw_no_batch_has_neither_mean_nor_variance(imported):
    got = imported(one("BatchNorm"), {"y": [random(4), random(4), np.float32([0])]}, {"x": X})["y"]
    close(got, X / np.sqrt(np.float32(1e-5)))


def test_normalize_over_the_whole_image(imported):
    got = imported(one("Normalize"), {"y": [np.float32([2])]}, {"x": X})["y"]
    close(got, 2 * X / np.sqrt(np.square(X).sum((1, 2, 3), keepdims=True) + 1e-10))


@pytest.mark.parametrize("parameters", ["across_channels: true", "normalize_variance: false"])
def test_mean_and_variance(imported, parameters):
    got = imported(one("MVN", f"mvn_param {{ {parameters} }}"), feeds={"x": X})["y"]
    axes = (1, 2, 3) if "across" in parameters else (2, 3)
    centred = X - X.mean(axes, keepdims=True)
    close(got, centred / (X.std(axes, keepdims=True) + 1e-9) if "across" in parameters else centred)


def test_dropout_of_a_fork_scales_when_tested(imported):
    got = imported(one("Dropout", "dropout_param { dropout_ratio: 0.25 scale_train: false }"), feeds={"x": X})["y"]
    close(got, 0.75 * X)


def test_prior_boxes_have_a_variance_of_a_tenth_unless_told(imported):
    text = header((1, 4, 2, 2), (1, 3, 8, 8)) + layer("PriorBox", "prior_box_param { min_size: 4 }", bottoms="x x1")
    feeds = {"x": np.zeros((1, 4, 2, 2), np.float32), "x1": np.zeros((1, 3, 8, 8), np.float32)}
    boxes, variances = imported(text, feeds=feeds)["y"][0]
    close(variances, np.full(16, 0.1, np.float32))
    close(boxes, np.float32([0, 0, 0.5, 0.5, 0.5, 0, 1, 0.5, 0, 0.5, 0.5, 1, 0.5, 0.5, 1, 1]))


STEPS, BATCH, TAKEN, HIDDEN = 5, 3, 4, 6
PLAIN = (random(24, 4), random(24), random(24, 6))


def unrolled(x, goes_on, blobs, static=None, h=None, c=None):
    """The network that Caffe's LSTM layer unrolls to."""
    w, b, *more = blobs
    u = more[-1]
    h, c = (np.zeros((BATCH, HIDDEN), np.float32) if state is None else state for state in (h, c))
    out = []
    for step in range(STEPS):
        column = goes_on[step][:, None]
        gates = x[step] @ w.T + b + (h * column) @ u.T + (0 if static is None else static @ more[0].T)
        i, f, o, g = np.split(gates, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = column * f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        out.append(h)
    return np.stack(out), h, c


@pytest.mark.parametrize(
    "goes_on", [np.ones((5, 3)), np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]])]
)
def test_lstm_begins_where_the_sequence_does(imported, goes_on):
    text = header((STEPS, BATCH, TAKEN), (STEPS, BATCH))
    text += layer("LSTM", "recurrent_param { num_output: 6 }", bottoms="x x1")
    x, goes_on = random(STEPS, BATCH, TAKEN), np.float32(goes_on)
    close(imported(text, {"y": PLAIN}, {"x": x, "x1": goes_on})["y"], unrolled(x, goes_on, PLAIN)[0])


def test_lstm_takes_a_static_input_and_states(imported):
    text = header((STEPS, BATCH, TAKEN), (STEPS, BATCH), (BATCH, 2), (1, BATCH, HIDDEN), (1, BATCH, HIDDEN))
    parameters = "recurrent_param { num_output: 6 expose_hidden: true }"
    text += layer("LSTM", parameters, bottoms="x x1 x2 x3 x4", tops="y h c")
    blobs = (PLAIN[0], PLAIN[1], random(24, 2), PLAIN[2])
    x, goes_on, static = random(STEPS, BATCH, TAKEN), np.ones((STEPS, BATCH), np.float32), random(BATCH, 2)
    h, c = random(1, BATCH, HIDDEN), random(1, BATCH, HIDDEN) / 2
    got = imported(text, {"y": blobs}, {"x": x, "x1": goes_on, "x2": static, "x3": h, "x4": c})
    y, last_h, last_c = unrolled(x, goes_on, blobs, static, h[0], c[0])
    close(got["y"], y)
    close(got["h"], last_h[None])
    close(got["c"], last_c[None])
