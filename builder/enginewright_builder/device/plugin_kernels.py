"""A plugin's kernels as the tactics of its layers: what they give is checked against the plugin's NumPy function, as
every tactic is against its layer."""

from functools import partial

from enginewright_builder.device import compile_triton, plugin_cuda, plugin_triton
from enginewright_builder.device.implementation import Candidate, Device
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.network.network import Network
from enginewright_builder.plugins import layers
from enginewright_runtime.errors import MissingExtraError
from enginewright_runtime.plugins.definition import Plugin

CUDA, TRITON = "plugin", "plugin in triton"


def plugin_of(alone: Network) -> Plugin | None:
    """The plugin that a layer by itself is, if it is one."""
    return next((layers.plugin_of(alone.plugins, node) for node in alone.layers()), None)


def require(plugin: Plugin) -> None:
    """Raises Declined where a plugin has no kernel."""
    if plugin.cuda is None and plugin.triton is None:
        raise Declined(f"the plugin {plugin.name} has no kernel")


def candidates(layer: DeviceLayer, plugin: Plugin, device: Device) -> tuple[Candidate, ...]:
    """One a kernel. Raises Declined where there is none, MissingExtraError where the one there is takes Triton."""
    require(plugin)
    found: list[Candidate] = []
    if plugin.cuda is not None:
        build = partial(plugin_cuda.build, layer, plugin, device.architecture)
        found.append(Candidate(tactic=CUDA, name=plugin.name, build=build))
    if plugin.triton is not None and compile_triton.version():
        build = partial(plugin_triton.build, layer, plugin, device.capability)
        found.append(Candidate(tactic=TRITON, name=plugin.name, build=build))
    if not found:
        raise MissingExtraError(package="triton", extra="triton", purpose=f"The kernel of the plugin {plugin.name}")
    return tuple(found)
