"""Caffe in: a prototxt's layers, with a caffemodel's weights, become ONNX's operators.

Caffe defines its layers on known shapes, and so they are written: every shape is computed beside the graph, as Caffe
computes it. A blob that layers change in place becomes a value a change, of which the last has the blob's name. The
network's outputs are the blobs that no layer reads.
"""

from pathlib import Path

import onnx_ir as ir

from enginewright_builder.importers import outputs as naming
from enginewright_builder.importers.caffe import assemble, weights
from enginewright_builder.importers.caffe import prototxt as text
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.plugins.collection import NONE, Plugins
from enginewright_runtime.errors import ModelError, UsageError

_IR_VERSION = 9  # what ONNX 1.15 and every version since reads


def load(
    path: Path, *, companion: Path | None = None, outputs: tuple[str, ...] = (), plugins: Plugins = NONE
) -> Network:
    """As `from_caffe`; the companion is the prototxt. Raises UsageError where there is none."""
    if companion is None:
        raise UsageError(
            f"The Caffe model {path} needs its prototxt: give --prototxt deploy.prototxt (in a manifest: "
            "spec.model.prototxt)."
        )
    return from_caffe(companion, path, outputs=outputs, plugins=plugins)


def from_caffe(prototxt: Path, caffemodel: Path, *, outputs: tuple[str, ...] = (), plugins: Plugins = NONE) -> Network:
    """Read a network of Caffe's; `outputs` names the blobs to compute, empty means those that no layer reads.

    Raises ModelError (missing, damaged, not fitting together) and UnsupportedError, naming the layer and the reason.
    """
    net = text.read(prototxt)
    assemble.require_wired(net, prototxt)
    own = assemble.unread(net)
    if not own and not outputs:
        raise ModelError(f"The prototxt {prototxt} leaves no output: layers read every blob; name some with --output.")
    chosen = naming.choose(assemble.tops(net), outputs, own, prototxt) if outputs else own
    graph, made = assemble.assemble(assemble.needed(net, chosen), weights.read(caffemodel), prototxt, plugins)
    for name in chosen:
        graph.outputs.append(_titled(graph, name, made[name]))
    network = Network(ir.Model(graph, ir_version=_IR_VERSION), notes=net.notes, plugins=plugins)
    shapes.infer(network)
    return network


def _titled(graph: ir.Graph, name: str, value: ir.Value) -> ir.Value:
    """The value under the blob's name, which an Identity gives where a layer only passed its bottom on."""
    if value.name == name and value.producer() is not None and not value.is_graph_output():
        return value
    carrier = ir.Node("", "Identity", [value], name=f"Identity:{name}")
    carrier.outputs[0].name = name
    graph.append(carrier)
    return carrier.outputs[0]
