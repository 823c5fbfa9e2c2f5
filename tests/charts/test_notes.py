"""NOTES.txt: what a person reads after `helm install`, and can paste."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import chart
from charts.chart import CHART, NAMESPACE, render

# `helm template` prints no notes, and every command that does asks a cluster first. So a copy of the chart shows its
# notes in an object, through the same template functions.
SHOWN = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {notes: {{ tpl (.Files.Get "notes-as-file.txt") . | quote }}}
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    copy = tmp_path / "enginewright"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "NOTES.txt").rename(copy / "notes-as-file.txt")
    (copy / "templates" / "notes.yaml").write_text(SHOWN)
    monkeypatch.setattr(chart, "CHART", copy)
    return lambda values=None: render(values).one("ConfigMap", "notes")["data"]["notes"]


def test_the_notes_say_how_to_see_the_operator_and_what_to_do_next(notes):
    text = notes()
    assert f"kubectl -n {NAMESPACE} rollout status deployment/ew-enginewright" in text
    for step in ("kubectl get gpuclasses", "kubectl get ie", "kubectl explain ie.spec", "enginewright explain -f"):
        assert step in text
    assert "https://enginewright.dev" in text


def manifest(text: str) -> Any:
    """The manifest that the notes show."""
    lines = text[text.index("apiVersion:") :].split("\n\n")[0]
    return yaml.safe_load("\n".join(line.removeprefix("     ") for line in lines.splitlines()))


def test_the_manifest_in_the_notes_is_whole_where_there_is_no_default_storage(notes):
    text = notes()
    assert "must name its own as spec.storage" in text
    assert manifest(text)["spec"]["storage"]["uri"].startswith("s3://")


def test_the_manifest_in_the_notes_needs_no_storage_where_there_is_a_default(notes):
    text = notes({"defaultStorage": {"uri": "s3://engines/x", "credentialsSecret": "minio"}})
    assert "storage" not in manifest(text)["spec"]
    assert "The Secret minio must exist in each engine's namespace" in text


def test_the_notes_name_the_namespaces_that_are_served(notes):
    text = notes({"watchNamespaces": ["team-a", "team-b"]})
    assert "serves the namespaces team-a, team-b" in text
    assert manifest(text)["metadata"]["namespace"] == "team-a"


def test_the_notes_say_what_is_missing(notes):
    assert "create GPUClass objects" in notes({"gpuClasses": {"enabled": False}})
    alone = notes({"watchNamespaces": ["a"], "rbac": {"clusterReader": False}})
    assert "has Roles alone" in alone
    assert "create GPUClass objects" not in alone
