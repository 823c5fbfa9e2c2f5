"""Small Caffe models through the importer and ONNX Runtime."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from enginewright_builder.importers.from_caffe import from_caffe

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where caffe_files.py lies: tests are no packages
from caffe_files import Arrays, caffemodel

Feeds = Mapping[str, np.ndarray]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes the two files; the model has a layer without weights, for Caffe writes those too."""

    def write(text: str, arrays: Arrays | None = None, **form: object) -> tuple[Path, Path]:
        prototxt, model = tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
        prototxt.write_text(text)
        model.write_bytes(caffemodel({"none": [], **(arrays or {})}, **form))
        return prototxt, model

    return write


@pytest.fixture
def imported(save) -> Callable[..., dict[str, np.ndarray]]:
    """text, blobs and feeds to the network's outputs."""

    def through(text: str, arrays: Arrays | None = None, feeds: Feeds | None = None, **form: object):
        network = from_caffe(*save(text, arrays, **form))
        data = ir.serde.serialize_model(network.model).SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(feeds or {})), strict=True))

    return through
