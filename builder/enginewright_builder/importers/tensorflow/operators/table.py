"""OPERATORS: every operation of TensorFlow that is written in ONNX, by its name."""

from types import MappingProxyType

from enginewright_builder.importers.tensorflow.call import Table
from enginewright_builder.importers.tensorflow.operators import (
    bicubic,
    branches,
    cropping,
    images,
    lists,
    loops,
    lstm,
    padding,
    picking,
    pointwise,
    products,
    quantization,
    reductions,
    shaping,
    suppression,
    windows,
)

OPERATORS: Table = MappingProxyType(
    {
        **pointwise.TABLE,  # element by element, in whichever layout
        **products.TABLE,  # matrix products
        **windows.TABLE,  # convolutions, pools and norms: channels first
        **reductions.TABLE,
        **shaping.TABLE,  # what moves elements
        **picking.TABLE,  # what picks them
        **padding.TABLE,
        **suppression.TABLE,
        **images.TABLE,  # what resizes and rearranges images
        **bicubic.TABLE,
        **branches.TABLE,  # conditionals and calls
        **loops.TABLE,
        **lstm.TABLE,  # steps of TensorFlow 1's fused layers
        **lists.TABLE,  # arrays of tensors, as loops read and write them
        **cropping.TABLE,  # boxes of images
        **quantization.TABLE,  # what training for fewer bits leaves
    }
)
