"""OPERATORS: every operation of TensorFlow that is written in ONNX, by its name."""

from types import MappingProxyType

from enginewright_builder.importers.tensorflow.call import Table
from enginewright_builder.importers.tensorflow.operators import (
    branches,
    cropping,
    images,
    lists,
    loops,
    picking,
    pointwise,
    products,
    quantization,
    reductions,
    shaping,
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
        **images.TABLE,  # what resizes and rearranges images
        **branches.TABLE,  # conditionals and calls
        **loops.TABLE,
        **lists.TABLE,  # arrays of tensors, as loops read and write them
        **cropping.TABLE,  # boxes of images
        **quantization.TABLE,  # what training for fewer bits leaves
    }
)
