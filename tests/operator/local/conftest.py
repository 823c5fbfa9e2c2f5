"""Manifests of the local tests, in a folder of their own."""

import base64
import textwrap
from pathlib import Path

import pytest

from enginewright_operator.local import manifests

ENGINE = """
apiVersion: enginewright.dev/v1alpha1
kind: InferenceEngine
metadata:
  name: tiny
spec:
  model:
    uri: model.onnx
  targets:
    - gpuClass: cpu
"""


@pytest.fixture
def write(tmp_path: Path):
    """Write a manifest (by default of one engine) and its model; returns the manifest's path."""

    def to_file(text: str = ENGINE, *more: str) -> Path:
        path = tmp_path / "manifest.yaml"
        path.write_text("\n---\n".join(textwrap.dedent(each) for each in (text, *more)))
        (tmp_path / "model.onnx").write_bytes(b"not looked into")
        return path

    return to_file


@pytest.fixture
def given(write):
    def read(text: str = ENGINE, *more: str) -> manifests.Manifests:
        return manifests.read(write(text, *more))

    return read


@pytest.fixture
def engine_text() -> str:
    return ENGINE


@pytest.fixture
def secret_text() -> str:
    key = base64.b64encode(b"key-id").decode()
    return f"""
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
data: {{AWS_ACCESS_KEY_ID: {key}}}
stringData: {{AWS_SECRET_ACCESS_KEY: "the secret"}}
"""
