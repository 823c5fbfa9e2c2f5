"""Every version of an object that a watch is shown, in order: what a GitOps tool would have seen."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from controlplane.cluster import ControlPlane


class Watch:
    """What a running watch has written so far."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def versions(self) -> list[dict[str, Any]]:
        """The objects, the oldest first; one that is half written is left out."""
        text, decoder, at, found = self._file.read_text(), json.JSONDecoder(), 0, []
        while at < len(text):
            try:
                version, at = decoder.raw_decode(text, at)
            except ValueError:
                break
            found.append(version)
            at += len(text[at:]) - len(text[at:].lstrip())
        return found


@contextmanager
def watch(cluster: ControlPlane, kind: str, namespace: str, folder: Path) -> Iterator[Watch]:
    """Watch a kind in a namespace while the block runs."""
    file = folder / f"{kind}.json"
    command = [str(cluster.programs["kubectl"]), f"--kubeconfig={cluster.kubeconfig}", "get", kind]
    with file.open("wb") as output:
        process = subprocess.Popen([*command, "--namespace", namespace, "--watch", "--output=json"], stdout=output)
        try:
            yield Watch(file)
        finally:
            process.terminate()
            process.wait()
