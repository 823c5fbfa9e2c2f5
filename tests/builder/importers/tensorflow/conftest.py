"""A graph that grows node by node, and the importer on it."""

import pytest

from enginewright_builder.importers import from_tensorflow


@pytest.fixture
def load(tmp_path):
    def read(content, *outputs):
        path = tmp_path / "model.pb"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return from_tensorflow.from_tensorflow(path, outputs=outputs)

    return read
