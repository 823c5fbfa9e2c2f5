"""Which importer reads which format: one line each.

A model has one format, and the others' operators take a sixth of the time that all of a build's imports take: so an
importer is loaded when a model of its format is read.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from enginewright_builder.network.network import Network
from enginewright_builder.plugins.collection import NONE, Plugins
from enginewright_runtime.errors import ModelError, UnsupportedError, UsageError
from enginewright_runtime.plan.recipe import ModelFormat


class Importer(Protocol):
    """Reads the model at `path`. `outputs` names what to compute; empty means the model's own. What the format does not
    know may be one of the `plugins`. Raises ModelError."""

    def __call__(self, path: Path, *, outputs: tuple[str, ...] = (), plugins: Plugins = NONE) -> Network: ...


class PairImporter(Protocol):
    """As an Importer, of a format that keeps a model in two files."""

    def __call__(
        self, path: Path, *, companion: Path | None, outputs: tuple[str, ...] = (), plugins: Plugins = NONE
    ) -> Network: ...


def _onnx(path: Path, *, outputs: tuple[str, ...] = (), plugins: Plugins = NONE) -> Network:
    from enginewright_builder.importers import from_onnx

    return from_onnx.load(path, outputs=outputs, plugins=plugins)


def _tensorflow(path: Path, *, outputs: tuple[str, ...] = (), plugins: Plugins = NONE) -> Network:
    from enginewright_builder.importers import from_tensorflow

    return from_tensorflow.from_tensorflow(path, outputs=outputs, plugins=plugins)


def _caffe(path: Path, *, companion: Path | None, outputs: tuple[str, ...] = (), plugins: Plugins = NONE) -> Network:
    from enginewright_builder.importers import from_caffe

    return from_caffe.load(path, companion=companion, outputs=outputs, plugins=plugins)


IMPORTERS: Mapping[ModelFormat, Importer] = MappingProxyType(
    {
        ModelFormat.ONNX: _onnx,  # ONNX is the vocabulary: its importer checks and tidies, and maps nothing
        ModelFormat.TENSORFLOW: _tensorflow,  # frozen graphs, written in ONNX's operators
    }
)

PAIR_IMPORTERS: Mapping[ModelFormat, PairImporter] = MappingProxyType(
    {
        ModelFormat.CAFFE: _caffe,  # the weights lie in the model, the layers in its prototxt
    }
)


def read(
    kind: ModelFormat,
    path: Path,
    *,
    companion: Path | None = None,
    outputs: tuple[str, ...] = (),
    plugins: Plugins = NONE,
) -> Network:
    """The model at `path` as a network. Raises ModelError and its kind, UsageError for a companion that none has.

    What is said stays one line, whatever a model's own names hold.
    """
    try:
        return _read(kind, path, companion, outputs, plugins)
    except ModelError as error:
        if error.message.isprintable():
            raise
        raise type(error)("".join(c if c.isprintable() else repr(c)[1:-1] for c in error.message)) from error


def _read(kind: ModelFormat, path: Path, companion: Path | None, outputs: tuple[str, ...], plugins: Plugins) -> Network:
    if kind in PAIR_IMPORTERS:
        return PAIR_IMPORTERS[kind](path, companion=companion, outputs=outputs, plugins=plugins)
    if companion is not None:
        raise UsageError(f"The model {path} is {kind}, which has no prototxt: leave {companion} out.")
    if kind not in IMPORTERS:
        raise UnsupportedError(
            f"The model format {str(kind)!r} cannot be read by this version, which reads "
            f"{', '.join([*IMPORTERS, *PAIR_IMPORTERS])}: convert the model to ONNX."
        )
    return IMPORTERS[kind](path, outputs=outputs, plugins=plugins)
