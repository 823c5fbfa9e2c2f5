"""A prototxt as the layers that are in force at test time, whatever form it is written in.

The forms: `layer` and the older `layers` with types as enumerators, inputs as layers or as a header, rules that keep
a layer for training. What comes out is one form: inputs apart, layers with the newer types, in the file's order.
"""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from google.protobuf import text_format  # type: ignore[import-untyped]  # protobuf publishes no types
from google.protobuf.message import Message  # type: ignore[import-untyped]

from enginewright_builder.importers.caffe import schema, unread
from enginewright_runtime.errors import ModelError, UnsupportedError

_LARGEST = 4 << 20  # bytes of text: the largest published networks have 200 kB
_UNKNOWN_FIELD = "has no field named"
_TEST = 1
_INPUT = "Input"
# V1's enumerators whose newer names do not follow from them.
_NEW_NAMES = MappingProxyType(
    {
        "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
        "IM2COL": "Im2col", "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss",
        "TANH": "TanH",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """One layer as it is written: `message` holds its parameters, and `unread` names one that is not known here."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Any
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prototxt:
    """A network as it is written. `inputs` are blobs' names with their shapes; `notes` are for the build's report."""

    name: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    layers: tuple[Description, ...]
    notes: tuple[str, ...]


def read(path: Path) -> Prototxt:
    """Read a prototxt. Raises ModelError and UnsupportedError, naming the line or the layer."""
    given = _text(path)
    net, notes = _parse(given, path)
    if net.layer and net.layers:
        raise ModelError(f"The prototxt {path} mixes `layer` and the older `layers`: write all of them in one form.")
    written = net.layer or net.layers
    strange = unread.of_layers(given, old=not net.layer) if notes else [""] * len(written)
    described = [
        _describe(each, field, path) for each, field in zip(written, strange, strict=True) if _in_force(each, net.state)
    ]
    layers = [layer for layer in described if layer.type != _INPUT]
    inputs = _header(net, path)
    for layer in described:
        if layer.type == _INPUT:
            inputs += _input_layer(layer, path)
    if not layers:
        raise ModelError(f"The prototxt {path} has no layer that is in force at test time: give a deploy prototxt.")
    if not inputs:
        raise ModelError(
            f"The prototxt {path} has no input: give the deploy prototxt, which has `input` or an Input layer."
        )
    return Prototxt(name=net.name, inputs=tuple(inputs), layers=tuple(layers), notes=notes)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise ModelError(f"The prototxt {path} does not exist: give the path of a deploy prototxt.") from error
    except OSError as error:
        raise ModelError(f"The prototxt {path} cannot be read: {error.strerror or error}.") from error
    if len(data) > _LARGEST:
        raise ModelError(f"The prototxt {path} has more than {_LARGEST} bytes: give the text without weights.")
    # A comment may be in any encoding.
    return data.decode("utf-8-sig", errors="replace")


def _parse(text: str, path: Path) -> tuple[Any, tuple[str, ...]]:
    """Merge, not Parse: where a field stands twice the last one holds, as it does in Caffe."""
    net = schema.net_parameter()
    try:
        return text_format.Merge(text, net()), ()
    except text_format.ParseError as error:
        unknown = " ".join(str(error).split()).replace(f"{net.DESCRIPTOR.file.package}.", "").rstrip(".")
        if _UNKNOWN_FIELD not in unknown:
            raise _not_text(path, error) from error
    except (RecursionError, ValueError) as error:
        raise _not_text(path, error) from error
    try:
        merged = text_format.Merge(text, net(), allow_unknown_field=True)
    except (text_format.ParseError, RecursionError, ValueError) as error:
        raise _not_text(path, error) from error
    return merged, (f"the prototxt has fields that are not read, the first being at {unknown}",)


def _not_text(path: Path, error: Exception) -> ModelError:
    package = f"{schema.net_parameter().DESCRIPTOR.file.package}."
    reason = " ".join(str(error).split()).replace(package, "")[:200].rstrip(".")
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    return ModelError(f"The prototxt {path} is not one that Caffe reads: {reason}; mend it there.")


def _describe(message: Message, unread: str, path: Path) -> Description:
    if message.DESCRIPTOR.name == "V1LayerParameter":
        if message.HasField("layer"):
            raise UnsupportedError(
                f"The prototxt {path} is in the form of 2013 (layer {message.layer.name!r} within `layers`): "
                "run Caffe's upgrade_net_proto_text on it, and upgrade_net_proto_binary on the model."
            )
        kind = _new_name(message.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[message.type].name)
    else:
        kind = message.type
    return Description(
        name=message.name,
        type=kind,
        bottoms=tuple(message.bottom),
        tops=tuple(message.top),
        message=message,
        unread=unread,
    )


def _new_name(enumerator: str) -> str:
    return _NEW_NAMES.get(enumerator, enumerator.title().replace("_", ""))


def _in_force(layer: Message, state: Message) -> bool:
    """Caffe's rules: a layer is left out where no rule of `include` is met, or one of `exclude` is."""
    if layer.include:
        return any(_met(rule, state) for rule in layer.include)
    return not any(_met(rule, state) for rule in layer.exclude)


def _met(rule: Message, state: Message) -> bool:
    stages = set(state.stage)
    return (
        (not rule.HasField("phase") or rule.phase == _TEST)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and stages.issuperset(rule.stage)
        and stages.isdisjoint(rule.not_stage)
    )


def _header(net: Message, path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """`input` with `input_shape`, or with four of `input_dim` each."""
    names = list(net.input)
    if net.input_shape:
        shapes = [tuple(shape.dim) for shape in net.input_shape]
    else:
        shapes = [tuple(net.input_dim[start : start + 4]) for start in range(0, len(net.input_dim), 4)]
    if len(names) != len(shapes):
        raise ModelError(
            f"The prototxt {path} has {len(names)} inputs and {len(shapes)} shapes for them: give each one."
        )
    return list(zip(names, shapes, strict=True))


def _input_layer(layer: Description, path: Path) -> list[tuple[str, tuple[int, ...]]]:
    shapes = [tuple(shape.dim) for shape in layer.message.input_param.shape]
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    if len(shapes) != len(layer.tops):
        raise ModelError(
            f"The prototxt {path} gives the Input layer {layer.name!r} {len(shapes)} shapes for "
            f"{len(layer.tops)} tops: give one, or one for each."
        )
    return list(zip(layer.tops, shapes, strict=True))
