"""A build's inputs, fetched from storage and held against the identities that the recipe names.

A recipe names its inputs by content ("sha256:…") or by the store's own version of them ("version:…"). What was fetched
must be just that: a model replaced between the order and the build would otherwise give a plan under a wrong digest.
"""

import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf publishes no types

from enginewright_builder import identities
from enginewright_builder.importers import external
from enginewright_runtime.errors import (
    InputError,
    ModelChangedError,
    ModelError,
    ObjectMissingError,
    StorageError,
    UsageError,
)
from enginewright_runtime.plan.recipe import ModelFormat
from enginewright_runtime.plan.request import BuildRequest
from enginewright_runtime.storage import open as stores
from enginewright_runtime.storage import uris
from enginewright_runtime.storage.store import StoredObject

VERSION = "version:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the fetched inputs lie; None for what the request does not name."""

    model: Path
    companion: Path | None = None
    calibration: Path | None = None
    accuracy: Path | None = None
    plugins: tuple[Path, ...] = ()


def fetch(request: BuildRequest, workdir: Path, step: Callable[[str], None]) -> Sources:
    """Download every input into `workdir`; `step` hears each name.

    Raises StorageError and its kind, ModelChangedError where an identity differs, ModelError for external data that
    cannot be fetched.
    """
    recipe = request.recipe
    gate = recipe.gates.accuracy
    if gate is not None and not request.accuracy_data:
        raise UsageError("The recipe has an accuracy gate, and the request names no data for it: give its URI.")
    if recipe.calibration and not request.calibration:
        raise UsageError("The recipe names calibration samples, and the request has no URI for them: give it.")
    if len(request.plugins) != len(recipe.plugins):
        raise UsageError(
            f"The recipe names {len(recipe.plugins)} plugins, and the request {len(request.plugins)} URIs for them: "
            "give one each."
        )
    model = _fetch(request.model, recipe.model, workdir / "model", request, step, what="model")
    if recipe.format is ModelFormat.ONNX:
        _fetch_external_data(request, model, step)
    return Sources(
        model=model,
        companion=_optional(request.companion, recipe.companion, "companion", request, workdir, step),
        calibration=_optional(request.calibration, recipe.calibration, "calibration", request, workdir, step),
        accuracy=_optional(request.accuracy_data, gate.data, "accuracy", request, workdir, step) if gate else None,
        plugins=tuple(
            _fetch(uri, wanted, workdir / f"plugin{number}", request, step, what="plugin")
            for number, (uri, wanted) in enumerate(zip(request.plugins, recipe.plugins, strict=True))
        ),
    )


@contextmanager
def named_as_given(request: BuildRequest, fetched: Sources) -> Iterator[None]:
    """An input that is refused is called what the person called it, a path or a URI, not where our copy of it lies."""
    pairs = (
        (fetched.model, request.model),
        (fetched.companion, request.companion),
        (fetched.calibration, request.calibration),
        (fetched.accuracy, request.accuracy_data),
        *zip(fetched.plugins, request.plugins, strict=True),
    )
    names = {str(copy): _shown(uri) for copy, uri in pairs if copy is not None}
    folders = {str(copy.parent): _shown(uri).rpartition("/")[0] for copy, uri in pairs if copy is not None}
    with called(names | folders):
        yield


@contextmanager
def called(names: Mapping[str, str]) -> Iterator[None]:
    """Whatever is refused within, its sentence says these names in place of our own paths; longer ones come first."""
    try:
        yield
    except (ModelError, InputError, StorageError, UsageError) as error:
        sentence = error.message
        for path, name in names.items():
            sentence = sentence.replace(path, name)
        if sentence == error.message:
            raise
        raise type(error)(sentence) from error


def require_identity(wanted: str, stored: StoredObject, path: Path, *, what: str) -> None:
    """Raise ModelChangedError unless the fetched file at `path` is the one that the recipe names as `wanted`."""
    if wanted.startswith(identities.SHA256):
        # A folder's version is of the very bytes that were copied; what an object store says of them proves nothing.
        got = stored.identity if uris.scheme(stored.uri) == "file" else identities.of(path)
    elif wanted.startswith(VERSION):
        got = VERSION + stored.version
    else:
        raise UsageError(
            f"The recipe's identity of the {what} must begin with {identities.SHA256!r} or {VERSION!r}, got {wanted!r}."
        )
    if got != wanted:
        raise ModelChangedError(
            f"The {what} {stored.uri} is not the one that the recipe names: wanted {wanted}, got {got}; "
            "it was replaced meanwhile, so order the build again."
        )


def _shown(uri: str) -> str:
    """A file of this machine by its path, as people write it; anything else by its URI."""
    return str(uris.to_path(uri)) if uris.scheme(uri) == "file" else uri


def _optional(
    uri: str, wanted: str, what: str, request: BuildRequest, workdir: Path, step: Callable[[str], None]
) -> Path | None:
    return _fetch(uri, wanted, workdir / what, request, step, what=what) if uri else None


def _fetch(
    uri: str, wanted: str, folder: Path, request: BuildRequest, step: Callable[[str], None], *, what: str
) -> Path:
    step(uri)
    path = folder / (PurePosixPath(uri).name or what)
    try:
        stored = stores.open_store(uri, request.storage).download(uri, path, durable=False)
    except ObjectMissingError as error:
        if what == "model":
            raise ModelError(
                f"The model {_shown(uri)} does not exist: give the URI or path of a model file."
            ) from error
        raise
    require_identity(wanted, stored, path, what=what)
    return path


def _fetch_external_data(request: BuildRequest, model: Path, step: Callable[[str], None]) -> None:
    """A model of more than 2 GB keeps its tensors in files beside it: fetch those that it names, into the same place.

    A location that climbs out of the model's folder is not fetched; the importer refuses it by name.
    """
    if not _mentions(model, b"location"):  # nor any tensor elsewhere: a model is parsed often enough
        return
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model.read_bytes())
    except DecodeError:
        return  # not ONNX: the importer says so better
    folder, _, _ = request.model.rpartition("/")
    for location in sorted(_locations(proto)):
        path = PurePosixPath(location)
        if path.is_absolute() or ".." in path.parts or "\0" in location or "\\" in location:
            continue
        uri = f"{folder}/{location}"
        step(uri)
        try:
            stores.open_store(uri, request.storage).download(uri, model.parent / path, durable=False)
        except ObjectMissingError as error:
            raise ModelError(
                f"The model {_shown(request.model)} keeps tensors in {location!r}, which is not beside it: "
                f"put that file there, as {_shown(uri)}."
            ) from error
        except OSError as error:
            raise StorageError(f"{uri} cannot be written to this machine: {error.strerror or error}.") from error


def _mentions(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False  # of which there is no mapping
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(word) >= 0


def _locations(proto: onnx.ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in external.tensors(proto)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location" and entry.value
    }
