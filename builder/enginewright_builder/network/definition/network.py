"""The class that a person writes a network with: all families of layers in one."""

from enginewright_builder.network.definition.dense import DenseLayers
from enginewright_builder.network.definition.moves import MovingLayers
from enginewright_builder.network.definition.normalization import NormalizingLayers
from enginewright_builder.network.definition.plugins import PluginLayers
from enginewright_builder.network.definition.pointwise import PointwiseLayers
from enginewright_builder.network.definition.recurrent import RecurrentLayers
from enginewright_builder.network.definition.windows import WindowLayers


class Network(
    WindowLayers, PointwiseLayers, DenseLayers, NormalizingLayers, MovingLayers, RecurrentLayers, PluginLayers
):
    """A network to be written: inputs, layers, outputs, and then `save`, a build, or any pass."""
