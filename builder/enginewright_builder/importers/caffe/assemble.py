"""The layers of a prototxt, one by one, into a graph: who reads what, in whose place, under which names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from enginewright_builder.importers.caffe import weights
from enginewright_builder.importers.caffe.layer import Layer
from enginewright_builder.importers.caffe.operators import plugins as own_layers
from enginewright_builder.importers.caffe.operators.table import LAYERS, TRAINING
from enginewright_builder.importers.caffe.prototxt import Description, Prototxt
from enginewright_builder.importers.caffe.writing import Blob, BlobShapeError, Writer
from enginewright_builder.plugins.collection import Plugins
from enginewright_runtime.errors import ModelError, UnsupportedError
from enginewright_runtime.plugins.definition import Plugin

_LISTED = 20


def assemble(
    net: Prototxt, stored: Mapping[str, Sequence[weights.Blob]], path: Path, plugins: Plugins
) -> tuple[ir.Graph, dict[str, ir.Value]]:
    """The graph without outputs, and each blob's last value. Raises ModelError and UnsupportedError."""
    own = _own(net, path, plugins)
    last = {top: index for index, layer in enumerate(net.layers) for top in layer.tops}
    last |= {name: -1 for name, _ in net.inputs}  # an input that is changed in place keeps its name
    write = Writer(net.name, last)
    blobs = _inputs(net, write, path)
    for index, described in enumerate(net.layers):
        write.begin(described.name)
        layer = Layer(
            name=described.name,
            type=described.type,
            bottoms=tuple(blobs[name] for name in described.bottoms),
            tops=len(described.tops),
            message=described.message,
            stored=tuple(stored.get(described.name, ())),
            write=write,
        )
        if described.unread and described.name not in own:
            layer.refuse(
                f"its field {described.unread} is not known here and could change what it computes: take it out if it "
                "does not, or write the layer as a plugin (--plugin)"
            )
        made = _made(layer, own.get(described.name))
        write.entitle(made, [top if last[top] == index else f"{top}/{described.name}" for top in described.tops])
        blobs |= zip(described.tops, made, strict=True)
    return write.graph, {name: blob.value for name, blob in blobs.items()}


def require_wired(net: Prototxt, path: Path) -> None:
    """Refuse a layer that reads what none before it makes, or makes what there is but in its place: ModelError."""
    known = {name for name, _ in net.inputs}
    for layer in net.layers:
        what = f"The prototxt {path} does not hold together: layer {layer.name!r} ({layer.type})"
        for bottom in layer.bottoms:
            if bottom not in known:
                raise ModelError(f"{what} reads the blob {bottom!r}, which no layer before it makes; mend it.")
        for top in layer.tops:
            if (top in known and top not in layer.bottoms) or layer.tops.count(top) > 1:
                raise ModelError(f"{what} makes the blob {top!r}, which there is already; mend it.")
        known.update(layer.tops)


def needed(net: Prototxt, wanted: Collection[str]) -> Prototxt:
    """The network without the layers that these blobs do not follow from."""
    names, kept = set(wanted), []
    for layer in reversed(net.layers):
        if names.intersection(layer.tops):
            kept.append(layer)
            names -= set(layer.tops) - set(layer.bottoms)
            names.update(layer.bottoms)
    return replace(net, layers=tuple(reversed(kept)))


def tops(net: Prototxt) -> tuple[str, ...]:
    """All blobs that layers make, in the order in which they are first made."""
    return tuple(dict.fromkeys(top for layer in net.layers for top in layer.tops))


def unread(net: Prototxt) -> tuple[str, ...]:
    """The blobs that layers make and none reads: a network's own outputs."""
    left: dict[str, None] = {}
    for layer in net.layers:
        for bottom in layer.bottoms:
            left.pop(bottom, None)
        left |= dict.fromkeys(layer.tops)
    return tuple(left)


def _own(net: Prototxt, path: Path, plugins: Plugins) -> dict[str, Plugin]:
    """The layers that are plugins, by name. Raises UnsupportedError for those that neither Caffe knows nor we do."""
    training = [layer for layer in net.layers if layer.type in TRAINING]
    others = [layer for layer in net.layers if layer.type not in LAYERS and layer.type not in TRAINING]
    found = {layer.name: plugin for layer in others if (plugin := own_layers.find(plugins, layer)) is not None}
    unknown = [layer for layer in others if layer.name not in found]
    if training:
        raise UnsupportedError(
            f"The prototxt {path} is for training or testing on data: {_listed(training)}; give the deploy prototxt."
        )
    if unknown:
        raise UnsupportedError(
            f"The prototxt {path} uses layers that are not Caffe's, or that this version does not build: "
            f"{_listed(unknown)}; write them as plugins (--plugin), or name outputs before them with --output."
        )
    return found


def _listed(layers: Sequence[Description]) -> str:
    names = ", ".join(f"{layer.type} in layer {layer.name!r}" for layer in layers[:_LISTED])
    return names + (f" and {len(layers) - _LISTED} more" if len(layers) > _LISTED else "")


def _inputs(net: Prototxt, write: Writer, path: Path) -> dict[str, Blob]:
    blobs: dict[str, Blob] = {}
    for name, shape in net.inputs:
        if not name or name in blobs:
            raise ModelError(f"The prototxt {path} has two inputs {name!r}: give each its own name.")
        try:
            blobs[name] = write.input(name, shape)
        except BlobShapeError as error:
            raise ModelError(f"The prototxt {path} has an input {name!r} that cannot be: {error}; mend it.") from error
    return blobs


def _made(layer: Layer, plugin: Plugin | None) -> Sequence[Blob]:
    if plugin is not None:
        return _counted(layer, own_layers.write(layer, plugin))
    operator = LAYERS[layer.type]
    if not operator.least <= len(layer.bottoms) <= operator.most:
        layer.wrong(f"it reads {len(layer.bottoms)} blobs, wanted {operator.least} to {operator.most}")
    try:
        made = operator.write(layer)
    except BlobShapeError as error:
        layer.wrong(f"it would make {error}")
    return _counted(layer, made)


def _counted(layer: Layer, made: Sequence[Blob]) -> Sequence[Blob]:
    if len(made) != layer.tops:
        layer.wrong(f"it makes {len(made)} blobs, and names {layer.tops}")
    return made
