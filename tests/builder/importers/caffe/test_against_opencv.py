"""Every layer that OpenCV's dnn module reads from Caffe gives what OpenCV gives, from the very same two files."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from caffe_files import header, layer, random

TOLERANCE = 1e-4  # of the output's range


@dataclass(frozen=True)
class Case:
    text: str
    shapes: Sequence[Sequence[int]] = ((2, 4, 9, 8),)
    blobs: Sequence[np.ndarray] = ()
    low: float = -1.0


def convolution(parameters: str, *blobs: np.ndarray, kind: str = "Convolution") -> Case:
    return Case(layer(kind, f"convolution_param {{ {parameters} }}"), blobs=blobs)


def plain(kind: str, parameters: str = "", low: float = -1.0, blobs: Sequence[np.ndarray] = ()) -> Case:
    return Case(layer(kind, parameters), low=low, blobs=blobs)


def pooling(parameters: str) -> Case:
    return plain("Pooling", f"pooling_param {{ {parameters} }}")


def pair(kind: str, parameters: str = "", *shapes: Sequence[int]) -> Case:
    return Case(layer(kind, parameters, bottoms="x x1"), shapes or ((2, 4, 9, 8), (2, 4, 9, 8)))


CASES = {
    "convolution": convolution("num_output: 6 kernel_size: 3 pad: 1", random(6, 4, 3, 3), random(6)),
    "convolution by height and width": convolution(
        "num_output: 6 kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0 bias_term: false",
        random(6, 4, 3, 1),
    ),
    "convolution in groups": convolution("num_output: 4 group: 2 kernel_size: 2", random(4, 2, 2, 2), random(4)),
    "convolution with holes": convolution("num_output: 3 kernel_size: 3 dilation: 2", random(3, 4, 3, 3), random(3)),
    "convolution of a list": convolution(
        "num_output: 3 kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 pad: 1 pad: 0", random(3, 4, 3, 2), random(3)
    ),
    "deconvolution": convolution(
        "num_output: 3 kernel_size: 4 stride: 2 pad: 1", random(4, 3, 4, 4), random(3), kind="Deconvolution"
    ),
    "deconvolution in groups": convolution(
        "num_output: 4 kernel_size: 4 stride: 2 group: 4 bias_term: false", random(4, 1, 4, 4), kind="Deconvolution"
    ),
    "inner product": plain(
        "InnerProduct", "inner_product_param { num_output: 5 }", blobs=[random(5, 288), random(5)]
    ),
    "inner product without bias": plain(
        "InnerProduct", "inner_product_param { num_output: 5 bias_term: false }", blobs=[random(5, 288)]
    ),
    "largest": pooling("pool: MAX kernel_size: 3 stride: 2"),
    "largest, padded": pooling("pool: MAX kernel_size: 3 stride: 2 pad: 1"),
    "largest, rounded down": pooling("pool: MAX kernel_size: 2 stride: 2 ceil_mode: false"),
    "largest of all": pooling("pool: MAX global_pooling: true"),
    "average": pooling("pool: AVE kernel_size: 3 stride: 2"),
    "average, padded": pooling("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
    "average by height and width": pooling("pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3"),
    "average of all": pooling("pool: AVE global_pooling: true"),
    "lrn across channels": plain("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 }"),
    "lrn within a channel": plain("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
    "batch norm": plain(
        "BatchNorm", "batch_norm_param { eps: 0.01 }", blobs=[random(4), random(4, low=1, high=2), np.float32([3])]
    ),
    "scale": plain("Scale", "scale_param { bias_term: true }", blobs=[random(4), random(4)]),
    "scale by a blob": pair("Scale", "scale_param { axis: 0 }", (2, 4, 9, 8), (2, 4, 9, 8)),
    "relu": plain("ReLU"),
    "leaky relu": plain("ReLU", "relu_param { negative_slope: 0.1 }"),
    "prelu": plain("PReLU", blobs=[random(4)]),
    "prelu of one slope": plain("PReLU", "prelu_param { channel_shared: true }", blobs=[random(1)]),
    "elu": plain("ELU", "elu_param { alpha: 1.0 }"),
    "sigmoid": plain("Sigmoid"),
    "tanh": plain("TanH"),
    "power": plain("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
    "power of an affine": plain("Power", "power_param { scale: -0.5 shift: 3 }"),
    "root": plain("Power", "power_param { power: 0.5 shift: 0.1 }", low=0.0),
    "exp": plain("Exp"),
    "exp of a base": plain("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"),
    "absolute value": plain("AbsVal"),
    "bnll": plain("BNLL"),
    "sum": pair("Eltwise"),
    "weighted sum": pair("Eltwise", "eltwise_param { operation: SUM coeff: 0.5 coeff: -2 }"),
    "product": pair("Eltwise", "eltwise_param { operation: PROD }"),
    "maximum": pair("Eltwise", "eltwise_param { operation: MAX }"),
    "concat": pair("Concat", "", (2, 4, 9, 8), (2, 3, 9, 8)),
    "slice": Case(
        layer("Slice", "slice_param { axis: 1 slice_point: 1 }", tops="a b", name="s")
        + layer("TanH", bottoms="a", tops="c", name="c")
        + layer("Concat", bottoms="b c"),
    ),
    "split": Case(
        layer("Split", tops="a b", name="s")
        + layer("TanH", bottoms="a", tops="c", name="c")
        + layer("Eltwise", bottoms="b c")
    ),
    "softmax": plain("Softmax"),
    "softmax along rows": plain("Softmax", "softmax_param { axis: 3 }"),
    "flatten": plain("Flatten"),
    "flatten some": plain("Flatten", "flatten_param { axis: 1 end_axis: 2 }"),
    "reshape": plain("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }"),
    "reshape some": plain("Reshape", "reshape_param { shape { dim: 36 dim: -1 } axis: 1 num_axes: 3 }"),
    "crop": pair("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", (2, 4, 9, 8), (2, 4, 5, 5)),
    "dropout": Case(layer("Dropout", tops="d", name="d") + layer("TanH", bottoms="d")),
    "normalize": plain("Normalize", "norm_param { across_spatial: false channel_shared: false }", blobs=[random(4)]),
    "permute": plain("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    "prior boxes": pair(
        "PriorBox",
        "prior_box_param { min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false"
        " variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }",
        (1, 4, 5, 6),
        (1, 3, 100, 120),
    ),
    "prior boxes of a step": pair(
        "PriorBox",
        "prior_box_param { min_size: 30 aspect_ratio: 2 flip: false clip: true step: 16 variance: 0.1 }",
        (1, 4, 5, 6),
        (1, 3, 100, 120),
    ),
    "mean and variance": plain("MVN", "mvn_param { eps: 1e-9 }"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_what_opencv_does(name, save, imported):
    case = CASES[name]
    text = header(*case.shapes) + case.text
    feeds = {name: random(*shape, low=case.low) for name, shape in zip(["x", "x1", "x2"], case.shapes, strict=False)}
    ours = imported(text, {"y": case.blobs}, feeds)
    net = cv2.dnn.readNetFromCaffe(*map(str, save(text, {"y": case.blobs})))
    for blob, array in feeds.items():
        net.setInput(array, blob)
    theirs = net.forward("y")
    assert list(ours) == ["y"]
    np.testing.assert_allclose(ours["y"], theirs.reshape(ours["y"].shape), rtol=0, atol=TOLERANCE * np.ptp(theirs))
    assert ours["y"].size == theirs.size
