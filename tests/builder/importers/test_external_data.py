"""External data stays in the model's folder, or nothing of it is opened."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginewright_builder.importers import from_onnx
from enginewright_runtime.errors import ModelError


def model(location, **more):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.bin").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    (tmp_path / "inside" / "w.bin").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    return tmp_path / "inside"


def refused(folder, proto):
    onnx.save(proto, folder / "model.onnx")
    with pytest.raises(ModelError) as raised:
        from_onnx.load(folder / "model.onnx")
    return str(raised.value)


def test_data_in_the_folder_is_mapped(folder):
    onnx.save(model("w.bin", offset=0, length=16), folder / "model.onnx")
    network = from_onnx.load(folder / "model.onnx")
    assert network.constant(network.graph.initializers["w"]).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("location", ["../outside.bin", "a/../../outside.bin", "..\\outside.bin", "C:\\w.bin", ""])
def test_a_path_that_leaves_the_folder_is_refused(folder, location):
    assert "which leaves the model's folder" in refused(folder, model(location))


def test_an_absolute_path_is_refused_even_into_the_folder(folder):
    assert "which leaves the model's folder" in refused(folder, model(str(folder / "w.bin")))


def test_a_symbolic_link_is_refused_wherever_it_points(folder):
    (folder / "link.bin").symlink_to(folder / "w.bin")
    assert "which goes through the symbolic link" in refused(folder, model("link.bin"))


def test_a_folder_that_is_a_symbolic_link_is_refused(folder):
    (folder / "sub").symlink_to(folder.parent)
    assert "which goes through the symbolic link" in refused(folder, model("sub/outside.bin"))


def test_a_missing_file_is_named(folder):
    assert "keeps the tensor 'w' in the file 'gone.bin', which does not exist" in refused(folder, model("gone.bin"))


@pytest.mark.parametrize("more", [{"offset": 4, "length": 16}, {"offset": 400}, {"offset": -4, "length": 8}])
def test_bytes_that_the_file_does_not_have_are_refused(folder, more):
    assert "but the file has 16 bytes" in refused(folder, model("w.bin", **more))


def test_an_offset_that_is_no_number_is_refused(folder):
    assert "at an offset or length that is no number" in refused(folder, model("w.bin", offset="four"))


def test_data_shorter_than_its_shape_is_refused(folder):
    assert "12 bytes, and its shape takes 16" in refused(folder, model("w.bin", offset=4, length=12))
