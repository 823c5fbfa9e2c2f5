"""Which of Caffe's layers is written how: one line each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.operators import (
    detection,
    moves,
    norms,
    pointwise,
    priors,
    products,
    recurrent,
    windows,
)
from enginewright_builder.importers.caffe.writing import Blob

_ANY = 1 << 20


@dataclass(frozen=True, slots=True)
class Operator:
    """How a layer is written, and how many blobs it may read."""

    write: Callable[[Layer], Sequence[Blob]]
    least: int = 1
    most: int = 1


LAYERS: Mapping[str, Operator] = MappingProxyType(
    {
        "AbsVal": Operator(pointwise.plain("Abs")),
        "ArgMax": Operator(products.arg_max),
        "BNLL": Operator(pointwise.plain("Softplus")),  # log(1 + e^x)
        "BatchNorm": Operator(norms.batch_norm),
        "Bias": Operator(norms.bias, 1, 2),
        "Concat": Operator(moves.concat, 1, _ANY),
        "Convolution": Operator(windows.convolution),
        "Crop": Operator(moves.crop, 2, 2),
        "Deconvolution": Operator(windows.deconvolution),
        "DetectionOutput": Operator(detection.detection_output, 3, 3),
        "Dropout": Operator(pointwise.dropout),
        "ELU": Operator(pointwise.elu),
        "Eltwise": Operator(pointwise.eltwise, 2, _ANY),
        "Embed": Operator(products.embed),
        "Exp": Operator(pointwise.exponential),
        "Flatten": Operator(moves.flatten),
        "InnerProduct": Operator(products.inner_product),
        "LRN": Operator(norms.lrn),
        "LSTM": Operator(recurrent.lstm, 2, 5),
        "Log": Operator(pointwise.logarithm),
        "MVN": Operator(norms.mean_variance),
        "Normalize": Operator(norms.normalize),
        "PReLU": Operator(pointwise.prelu),
        "Permute": Operator(moves.permute),
        "Pooling": Operator(windows.pooling),
        "Power": Operator(pointwise.power),
        "PriorBox": Operator(priors.prior_box, 2, 2),
        "ReLU": Operator(pointwise.relu),
        "Reduction": Operator(norms.reduction),
        "Reshape": Operator(moves.reshape),
        "Scale": Operator(norms.scale, 1, 2),
        "Sigmoid": Operator(pointwise.plain("Sigmoid")),
        "Silence": Operator(moves.silence, 1, _ANY),
        "Slice": Operator(moves.slice_blob),
        "Softmax": Operator(norms.softmax),
        "Split": Operator(pointwise.same),
        "TanH": Operator(pointwise.plain("Tanh")),
        "Threshold": Operator(pointwise.threshold),
        "Tile": Operator(moves.tile),
        "Upsample": Operator(windows.upsample, 1, 2),
    }
)

# What only training has: a deploy prototxt is without them.
TRAINING = frozenset(
    {
        "Accuracy", "ContrastiveLoss", "Data", "DummyData", "EuclideanLoss", "HDF5Data", "HDF5Output", "HingeLoss",
        "ImageData", "InfogainLoss", "MemoryData", "MultiBoxLoss", "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss",
        "SmoothL1Loss", "SoftmaxWithLoss", "WindowData",
    }
)  # fmt: skip
