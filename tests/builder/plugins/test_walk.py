"""A network with plugins in it: built from a file, proven, refused without leave, and right with it."""

import json

import numpy as np
import onnx
import pytest

from enginewright_builder import commands, exporting, identities
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import specialize, text
from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection
from enginewright_runtime.commands.infer import infer
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.engine.plugins import PluginsNotAllowedError
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.container import PlanFile


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("yolo") / "yolo.onnx"
    network.save(path)
    return path


@pytest.fixture(scope="module")
def plan(model, file):
    path = model.with_suffix(".plan")
    commands.build(model, path, batch="1,2", effort="fast", plugin=[file])
    return path


def right(plugins, model, x):
    """The convolutions by ONNX's own reference, the plugins by theirs."""
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer}
    first, head = weights["convolution.kernel"], weights["head.kernel"]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    x = np.einsum("bchwij,mcij->bmhw", windows, first)
    x = plugins["com.example.Reorg"].reference(plugins["com.example.Swish"].reference(x, beta=1.5), stride=2)
    return np.maximum(np.einsum("bchw,mc->bmhw", x, head[:, :, 0, 0]), 0)


def test_a_plan_with_plugins_computes_them(plan, model, plugins):
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    with Engine(plan, allow_plugins=True) as engine:
        engine.replay_goldens()
        np.testing.assert_allclose(engine.infer(x)["y"], right(plugins, model, x), rtol=1e-3, atol=1e-4)


def test_without_leave_it_says_whose_code_it_is_and_how_to_allow_it(plan, tmp_path):
    for load in (lambda: Engine(plan), lambda: infer(plan, [str(tmp_path / "x.npy")])):
        with pytest.raises(PluginsNotAllowedError) as caught:
            load()
        assert "(com.example.Reorg, com.example.Swish)" in caught.value.message
        assert "allow_plugins=True" in caught.value.message
        assert "--allow-plugins" in caught.value.message


def test_the_plan_carries_the_source_and_the_recipe_its_digest(plan, file):
    with PlanFile(plan) as read:
        assert read.manifest.recipe.plugins == (identities.of(file),)
        assert bytes(read.blob("plugins/com.example.Swish.py")) == file.read_bytes()


def test_other_code_gives_another_plan(model, file, tmp_path):
    changed, digests = tmp_path / "changed.py", set()
    changed.write_text(file.read_text() + "# changed\n")
    for source in (file, changed):
        path = tmp_path / "a.plan"
        commands.build(model, path, effort="fast", plugin=[source])
        with PlanFile(path) as read:
            digests.add(read.manifest.digest)
    assert len(digests) == 2


def test_a_plan_is_compared_with_its_model(plan, model, file, capsys):
    commands.compare(model, plan, samples=2, plugin=[file], as_json=True)
    (difference,) = json.loads(capsys.readouterr().out)["differences"]
    assert difference["output"] == "y"


def test_a_model_of_an_unknown_domain_says_that_a_plugin_could_be_named(model, tmp_path):
    with pytest.raises(UnsupportedError, match=r"Swish \(domain com\.example, opset 1\).*or build with a --plugin"):
        commands.build(model, tmp_path / "a.plan")


def test_shapes_follow_the_rules_as_far_as_they_are_known(model, plugins):
    network = from_onnx.load(model, plugins=plugins)
    assert [text.type_text(node.outputs[0]) for node in network.layers()] == [
        "float32[batch,4,8,8]",
        "float32[batch,4,8,8]",
        "float32[batch,16,4,4]",
        "float32[batch,2,4,4]",
        "float32[batch,2,4,4]",
    ]


def test_an_export_keeps_the_layers_by_name(model, file, tmp_path):
    exporting.export(model, tmp_path / "a.txt", plugin=[file])
    assert "swish: swish = com.example.Swish(convolution, beta=1.5)" in (tmp_path / "a.txt").read_text()


def test_a_size_that_only_the_rule_knows_is_found_when_the_batch_is(tmp_path):
    (tmp_path / "twice.py").write_text(
        "import numpy as np\n\nfrom enginewright_runtime.plugins import TensorSpec, plugin\n\n\n"
        "@plugin('com.example.Twice', rule=lambda x: TensorSpec(x.dtype, (2 * x.shape[0], x.shape[1])))\n"
        "def twice(x):\n    return np.concatenate([x, x])\n"
    )
    own, network = collection.load([tmp_path / "twice.py"]), Network("twice")
    (y,) = network.add_plugin(own["com.example.Twice"], [network.add_input("x", ("batch", 3))])
    network.mark_output(network.add_activation(y, "relu"), "y")
    network.save(tmp_path / "twice.onnx")
    read = from_onnx.load(tmp_path / "twice.onnx", plugins=own)
    assert "float32[?,3]" in text.to_text(read)
    assert "y = Relu(twice) : float32[10,3]" in text.to_text(specialize.with_shapes(read, {"x": (5, 3)}))
