"""SavedModels: their signature's names, and which of them can be read."""

from pathlib import Path

import numpy as np
import pytest

from enginewright_builder.importers import from_tensorflow
from enginewright_builder.importers.tensorflow import schema
from enginewright_runtime import cli
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.outcome import Outcome

GOLDEN = Path(__file__).parent / "goldens" / "saved_model.npz"


@pytest.fixture
def saved():
    with np.load(GOLDEN) as content:
        return schema.SavedModel.FromString(content["graph"].tobytes())


def test_a_signature_names_inputs_and_outputs(saved, load):
    network = load(saved)
    assert [value.name for value in network.inputs] == ["x0"]
    assert [value.name for value in network.outputs] == ["y0", "y1"]


def test_one_of_a_signatures_outputs_can_be_chosen(saved, load):
    assert [value.name for value in load(saved, "y1").outputs] == ["y1"]


def test_a_folder_stands_for_the_file_in_it(saved, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert len(from_tensorflow.from_tensorflow(tmp_path).outputs) == 2


def test_several_signatures_need_the_default_one(saved, load):
    signatures = saved.meta_graphs[0].signature_def
    signatures["left"].CopyFrom(signatures["serving_default"])
    signatures["right"].CopyFrom(signatures["serving_default"])
    del signatures["serving_default"]
    with pytest.raises(UnsupportedError, match=r"has the signatures left, right and none named 'serving_default'"):
        load(saved)


def test_the_command_line_builds_one_of_a_signatures_outputs(saved, tmp_path, capfd):
    file, plan = tmp_path / "saved_model.pb", tmp_path / "net.plan"
    file.write_bytes(saved.SerializeToString())
    words = ["build", str(file), "--shape", "x0=2x3", "-o", str(plan), "--effort", "fast"]
    assert cli.main([*words, "--output", "y1"]) == Outcome.DONE
    with np.load(GOLDEN) as content, Engine(plan) as engine:
        got = engine.infer({"x0": content["in:x0"]})
        assert list(got) == ["y1"]
        np.testing.assert_allclose(got["y1"], content["out:y1"], rtol=0, atol=1e-5)


def test_the_command_line_says_what_to_do_about_variables(saved, tmp_path, capfd):
    with_a_variable(saved)
    file = tmp_path / "saved_model.pb"
    file.write_bytes(saved.SerializeToString())
    assert cli.main(["build", str(file), "-o", str(tmp_path / "net.plan")]) != Outcome.DONE
    assert "lie beside it: freeze it (convert_variables_to_constants_v2)" in capfd.readouterr().err


def with_a_variable(saved):
    graph = saved.meta_graphs[0].graph_def
    called = saved.meta_graphs[0].signature_def["serving_default"].outputs["y0"].name.removesuffix(":0")
    graph.node.add(name="dense/kernel", op="VarHandleOp")
    next(node for node in graph.node if node.name == called).input.append("dense/kernel")


def test_weights_in_variables_are_refused_by_name(saved, load):
    with_a_variable(saved)
    with pytest.raises(UnsupportedError, match=r"keeps weights in variables \('dense/kernel'\).*: freeze it"):
        load(saved)
