"""A manifest file to objects: engines, GPU classes, Secrets and ConfigMaps, with errors that name file and line."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from enginewright_operator import api, recipes
from enginewright_operator.errors import ManifestError
from enginewright_runtime.plan.target import TargetKind
from enginewright_runtime.storage import uris

CPU = api.GPUClass(metadata=api.ObjectMeta(name="cpu"), spec=api.GPUClassSpec(kind=TargetKind.CPU))
Kind = TypeVar("Kind", api.InferenceEngine, api.GPUClass)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifests:
    """What a file holds, by name. `secrets` are decoded, and are never shown."""

    path: Path
    engine: api.InferenceEngine
    gpu_classes: Mapping[str, api.GPUClass] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read(path: Path) -> Manifests:
    """The one InferenceEngine of a file and what stands beside it. Raises ManifestError naming the line.

    A URI without a scheme is a path, relative to the file's folder.
    """
    engines: list[api.InferenceEngine] = []
    classes = {CPU.metadata.name: CPU}
    secrets: dict[str, Mapping[str, str]] = {}
    config_maps: dict[str, Mapping[str, str]] = {}
    for node, document in _documents(path):
        kind = document.get("kind")
        if kind == api.InferenceEngine.KIND:
            engines.append(_read(api.InferenceEngine, document, node, path))
        elif kind == api.GPUClass.KIND:
            gpu_class = _read(api.GPUClass, document, node, path)
            classes[gpu_class.metadata.name] = gpu_class
        elif kind == "Secret":
            secrets[_name(document, path)] = _secret(document, path)
        elif kind == "ConfigMap":
            config_maps[_name(document, path)] = _texts(document, "data", path)
        elif kind != "Namespace":
            raise ManifestError(
                f"{path}, line {node.start_mark.line + 1}: a document of kind {kind!r} is not understood here; there "
                "may be InferenceEngine, GPUClass, Secret, ConfigMap and Namespace."
            )
    if len(engines) != 1:
        found = ", ".join(engine.metadata.name for engine in engines) or "none"
        raise ManifestError(f"{path} must hold one InferenceEngine, got {found}: split it into one file for each.")
    return Manifests(
        path=path,
        engine=_with_absolute_uris(engines[0], path.resolve().parent),
        gpu_classes=classes,
        secrets=secrets,
        config_maps=config_maps,
    )


def _documents(path: Path) -> list[tuple[yaml.Node, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"The manifest {path} does not exist: give the path of a YAML file with -f.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"The manifest {path} cannot be read: {error}.") from error
    loader = yaml.SafeLoader(text)
    found: list[tuple[yaml.Node, dict[str, Any]]] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            document = loader.construct_document(node) if node is not None else None
            if node is not None and document is not None:
                found.append((node, _mapping(document, node, path)))
    except (yaml.YAMLError, RecursionError) as error:
        raise ManifestError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    finally:
        loader.dispose()
    return found


def _mapping(document: Any, node: yaml.Node, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict) or not isinstance(document.get("metadata") or {}, dict):
        raise ManifestError(
            f"{path}, line {node.start_mark.line + 1}: a document must be an object with apiVersion, kind, metadata "
            f"and spec, got {type(document).__name__}."
        )
    return document


def _read(cls: type[Kind], document: Mapping[str, Any], node: yaml.Node, path: Path) -> Kind:
    try:
        return api.read(cls, document)
    except ManifestError as error:
        place: tuple[int | str, ...] = ("apiVersion",)
        if isinstance(error.__cause__, ValidationError):
            place = api.first_fault(error.__cause__)["loc"]
        raise ManifestError(f"{path}, line {line_of(node, place)}: {error.message}") from error


def line_of(node: yaml.Node, place: tuple[int | str, ...]) -> int:
    """The line, from 1, of the field at `place`, or of the innermost object around it that is there."""
    line = node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == part), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _name(document: Mapping[str, Any], path: Path) -> str:
    name = (document.get("metadata") or {}).get("name")
    if not isinstance(name, str):
        raise ManifestError(f"{path}: a {document.get('kind')} has no metadata.name: give it one.")
    return name


def _texts(document: Mapping[str, Any], part: str, path: Path) -> dict[str, str]:
    entries = document.get(part) or {}
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise ManifestError(
            f"{path}: the {document['kind']} {_name(document, path)!r} must map names to texts in {part}: quote values."
        )
    return {str(key): value for key, value in entries.items()}


def _secret(document: Mapping[str, Any], path: Path) -> dict[str, str]:
    decoded = {}
    for key, value in _texts(document, "data", path).items():
        try:
            decoded[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ManifestError(
                f"{path}: the key {key!r} of the Secret {_name(document, path)!r} is not base64 of a text: write it in "
                "stringData as it is."
            ) from error
    return decoded | _texts(document, "stringData", path)


def _with_absolute_uris(engine: api.InferenceEngine, folder: Path) -> api.InferenceEngine:
    def absolute(uri: str) -> str:
        return uri if uris.scheme(uri) else uris.from_path((folder / uri).resolve())

    spec = engine.spec
    prototxt = absolute(spec.model.prototxt) if spec.model.prototxt else None
    changes: dict[str, Any] = {
        "model": spec.model.model_copy(update={"uri": absolute(spec.model.uri), "prototxt": prototxt})
    }
    if spec.build.plugins:
        plugins = tuple(absolute(uri) for uri in spec.build.plugins)
        changes["build"] = spec.build.model_copy(update={"plugins": plugins})
    if spec.calibration:
        changes["calibration"] = spec.calibration.model_copy(update={"uri": absolute(spec.calibration.uri)})
    if spec.gates and spec.gates.accuracy:
        accuracy = spec.gates.accuracy.model_copy(update={"data": absolute(spec.gates.accuracy.data)})
        changes["gates"] = spec.gates.model_copy(update={"accuracy": accuracy})
    return engine.model_copy(update={"spec": spec.model_copy(update=changes)})


def credentials(manifests: Manifests, storage: api.Storage) -> Mapping[str, str]:
    """The Secret that storage names, where the file holds it; nothing where storage names none.

    Raises ManifestError where it names one that is not in the file.
    """
    name = storage.credentials_secret
    if not name or not _needs_network(manifests, storage):
        return {}
    if name not in manifests.secrets:
        raise ManifestError(
            f"The Secret {name!r} that storage.credentialsSecret names is not in {manifests.path}: add it there for a "
            "run on this machine, or take credentialsSecret out to use this machine's own AWS_* variables."
        )
    return manifests.secrets[name]


def _needs_network(manifests: Manifests, storage: api.Storage) -> bool:
    named = [storage.uri, *recipes.input_uris(manifests.engine.spec).values()]
    return any(uris.scheme(uri) != "file" for uri in named)
