"""Which importer reads which format: one line each."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from enginewright_builder.importers import from_onnx
from enginewright_builder.network.network import Network
from enginewright_runtime.plan.recipe import ModelFormat


class Importer(Protocol):
    """Reads the model at `path`. `outputs` names what to compute; empty means the model's own. Raises ModelError."""

    def __call__(self, path: Path, *, outputs: tuple[str, ...] = ()) -> Network: ...


IMPORTERS: Mapping[ModelFormat, Importer] = MappingProxyType(
    {
        ModelFormat.ONNX: from_onnx.load,  # ONNX is the vocabulary: its importer checks and tidies, and maps nothing
    }
)
