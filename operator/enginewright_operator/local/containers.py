"""A rendered pod's one container to a process of this machine: its words and environment. Pure but for the folders.

A process has no mount namespace of its own: where the pod mounts a volume at /plans, its command, arguments and
environment are rewritten to the volume's folder here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enginewright_operator.errors import ManifestError
from enginewright_operator.local.manifests import Manifests

LOOPBACK = "127.0.0.1"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a process is started with. `termination_log` is where its last message will lie."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    termination_log: Path


def words_of(pod_spec: Mapping[str, Any], folder: Path, manifests: Manifests) -> Words:
    """The process of the pod's container, its volumes made under `folder`.

    Raises ManifestError for a Secret or ConfigMap that the manifest's file does not hold.
    """
    (container,) = pod_spec["containers"]
    log = folder / "termination-log"
    local = {container.get("terminationMessagePath", "/dev/termination-log"): log}
    volumes = {volume["name"]: _volume(volume, folder, manifests) for volume in pod_spec["volumes"]}
    for mount in container["volumeMounts"]:
        local[mount["mountPath"]] = volumes[mount["name"]]
    environment: dict[str, str] = {}
    for variable in container["env"]:
        value = _value(variable, manifests)
        if value is not None:
            environment[variable["name"]] = _replaced(_expanded(value, environment), local)
    given = (*container["command"], *container["args"])
    return Words(
        words=tuple(_replaced(_expanded(word, environment), local) for word in given),
        environment=environment,
        termination_log=log,
    )


def _volume(volume: Mapping[str, Any], folder: Path, manifests: Manifests) -> Path:
    path = folder / "volumes" / str(volume["name"])
    path.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume:
        return path
    if "secret" in volume:
        source, texts = volume["secret"], manifests.secrets.get(volume["secret"]["secretName"])
        what = f"Secret {source['secretName']!r}"
    else:
        source, texts = volume["configMap"], manifests.config_maps.get(volume["configMap"]["name"])
        what = f"ConfigMap {source['name']!r}"
    for item in source["items"]:
        (path / item["path"]).write_text(_entry(texts, item["key"], what, manifests), encoding="utf-8")
    return path


def _value(variable: Mapping[str, Any], manifests: Manifests) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        field_path = source["fieldRef"]["fieldPath"]
        if field_path != "status.podIP":
            raise ManifestError(f"The pod's field {field_path!r} has no meaning here, only status.podIP has.")
        return LOOPBACK
    reference = source["secretKeyRef"]
    texts = manifests.secrets.get(reference["name"])
    if reference.get("optional") and reference["key"] not in (texts or {}):
        return None
    return _entry(texts, reference["key"], f"Secret {reference['name']!r}", manifests)


def _entry(texts: Mapping[str, str] | None, key: str, what: str, manifests: Manifests) -> str:
    if texts is None:
        raise ManifestError(f"The {what} is not in {manifests.path}: add it there for a run on this machine.")
    if key not in texts:
        raise ManifestError(f"The {what} has no key {key!r}, it has {', '.join(sorted(texts)) or 'none'}: add it.")
    return texts[key]


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' own $(NAME): an unknown name stays as it is written, $$ is one dollar."""

    def value(found: re.Match[str]) -> str:
        return "$" if found.group() == "$$" else variables.get(found.group(1), found.group())

    return _REFERENCE.sub(value, text)


def _replaced(text: str, local: Mapping[str, Path]) -> str:
    """Whole texts that are a mount path or lie under one: a URI or JSON that only contains such words is left alone.

    The build request names one path inside its JSON, the CA bundle's, as a whole JSON text: that is replaced too.
    """
    for mount, path in local.items():
        if text == mount or text.startswith(mount + "/"):
            return str(path) + text[len(mount) :]
        text = re.sub(f'"{re.escape(mount)}(?=[/"])', lambda _, path=path: f'"{path}', text)  # type: ignore[misc]
    return text
