"""Caffe's Python and unknown layers, and TensorFlow's unknown operations, are plugins by name."""

import numpy as np
import pytest

from enginewright_builder import commands
from enginewright_builder.importers import from_caffe, from_tensorflow
from enginewright_builder.importers.caffe.schema import net_parameter
from enginewright_builder.importers.tensorflow.schema import GraphDef
from enginewright_builder.network import text
from enginewright_builder.plugins import collection
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import ModelError, UnsupportedError, UsageError
from enginewright_runtime.plugins import PluginError

PROTOTXT = """name: "net" input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }
layer { name: "act" type: "Swish" bottom: "data" top: "act" }
layer { name: "down" type: "Python" bottom: "act" top: "down"
        python_param { module: "reorg" layer: "Reorg" param_str: "%s" } }
"""


def caffe_files(tmp_path, parameters):
    prototxt, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(PROTOTXT % parameters)
    stored = net_parameter()()
    stored.layer.add(name="act", type="Swish")
    model.write_bytes(stored.SerializeToString())
    return model, prototxt


def caffe(tmp_path, parameters, plugins):
    model, prototxt = caffe_files(tmp_path, parameters)
    return from_caffe.load(model, companion=prototxt, plugins=plugins)


def answered(plan, x):
    with Engine(plan, allow_plugins=True) as engine:
        engine.replay_goldens()
        (given,) = engine.infer(x).values()
    return given


def swish(x, beta):
    return x / (1 + np.exp(-beta * x))


def test_a_plan_of_caffes_python_layers_computes_them(tmp_path, file):
    model, prototxt = caffe_files(tmp_path, "{'stride': 2}")
    commands.build(model, tmp_path / "net.plan", prototxt=prototxt, effort="fast", plugin=[file])
    x = np.random.default_rng(2).standard_normal((1, 3, 4, 4)).astype(np.float32)
    blocks = swish(x, 1).reshape(1, 3, 2, 2, 2, 2).transpose(0, 3, 5, 1, 2, 4)
    np.testing.assert_allclose(answered(tmp_path / "net.plan", x), blocks.reshape(1, 12, 2, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parameters", ["{'stride': 4}", '{\\"stride\\": 4}'])
def test_caffes_unknown_and_python_layers_are_plugins(tmp_path, plugins, parameters):
    network = caffe(tmp_path, parameters, plugins)
    lines = text.to_text(network).splitlines()
    assert "act: act = com.example.Swish(data) : float32[1,3,4,4]" in lines
    assert "down: down = com.example.Reorg(act, stride=4) : float32[1,48,1,1]" in lines


def test_what_a_python_layer_says_of_its_attributes_is_checked(tmp_path, plugins):
    with pytest.raises(PluginError, match=r"has no attribute 'size'; its attributes are stride"):
        caffe(tmp_path, "{'size': 4}", plugins)
    with pytest.raises(ModelError, match=r"its param_str is neither JSON nor a Python literal: .__import__"):
        caffe(tmp_path, "__import__('os')", plugins)
    with pytest.raises(
        PluginError, match=r"The rule of the plugin com\.example\.Reorg fails for float32 \[1, 3, 4, 4\]"
    ):
        caffe(tmp_path, "{'stride': 3}", plugins)


def test_without_the_plugin_caffes_layers_are_refused_by_name(tmp_path):
    with pytest.raises(UnsupportedError, match=r"Swish in layer 'act', Python in layer 'down'; write them as plugins"):
        caffe(tmp_path, "", collection.NONE)


def tensorflow_file(tmp_path):
    graph = GraphDef()
    x = graph.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = 1
    for size in (-1, 4, 6, 2):
        x.attr["shape"].shape.dim.add(size=size)
    swish = graph.node.add(name="act", op="Swish", input=["x"])
    swish.attr["beta"].f = 2.0
    swish.attr["T"].type = 1
    graph.node.add(name="relu", op="Relu", input=["act"]).attr["T"].type = 1
    (tmp_path / "net.pb").write_bytes(graph.SerializeToString())
    return tmp_path / "net.pb"


def tensorflow(tmp_path, plugins):
    return from_tensorflow.from_tensorflow(tensorflow_file(tmp_path), plugins=plugins)


def test_a_plan_of_tensorflows_unknown_operations_computes_them(tmp_path, file):
    commands.build(tensorflow_file(tmp_path), tmp_path / "net.plan", batch="1,3", effort="fast", plugin=[file])
    x = np.random.default_rng(2).standard_normal((3, 4, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(answered(tmp_path / "net.plan", x), np.maximum(swish(x, 2), 0), rtol=1e-5, atol=1e-6)


def test_tensorflows_unknown_operations_are_plugins(tmp_path, plugins):
    (line,) = [line for line in text.to_text(tensorflow(tmp_path, plugins)).splitlines() if "Swish" in line]
    assert line.endswith("com.example.Swish(x, beta=2.0) : float32[batch,4,6,2]")


def test_a_tensorflow_plugins_whole_numbers_are_read(tmp_path, plugins):
    graph = GraphDef()
    x = graph.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = 1
    for size in (1, 4, 6, 2):
        x.attr["shape"].shape.dim.add(size=size)
    down = graph.node.add(name="down", op="Reorg", input=["x"])
    down.attr["stride"].i = 2
    down.attr["T"].type = 1
    (tmp_path / "net.pb").write_bytes(graph.SerializeToString())
    network = from_tensorflow.from_tensorflow(tmp_path / "net.pb", plugins=plugins)
    assert any("com.example.Reorg(x, stride=2)" in line for line in text.to_text(network).splitlines())


def test_without_the_plugin_tensorflows_operations_are_refused_by_name(tmp_path):
    with pytest.raises(UnsupportedError, match=r"'act' \(Swish\); .*write them as plugins"):
        tensorflow(tmp_path, collection.NONE)


def test_two_plugins_of_one_last_name_are_told_apart_by_the_whole(tmp_path, plugins, file):
    other = tmp_path / "other.py"
    other.write_text(
        "from enginewright_runtime.plugins import plugin\n\n@plugin('org.other.Swish')\ndef f(x): return x\n"
    )
    both = {**plugins, **collection.load([other])}
    assert collection.called(both, "org.other.Swish").name == "org.other.Swish"
    with pytest.raises(UsageError, match=r"'Swish' could be of the plugins com\.example\.Swish and org\.other\.Swish"):
        collection.called(both, "Swish")
    with pytest.raises(UsageError, match=r"defines com\.example\.Swish, and another file does too"):
        collection.load([file, file])
