"""Loops, conditionals and functions that do not hold together, nest without end or cannot be said in ONNX."""

import pytest

from enginewright_builder.importers.tensorflow import schema
from enginewright_builder.network import layers
from enginewright_runtime.errors import ModelError, UnsupportedError

FLOAT, INT, BOOL = 1, 3, 10


def node(graph, name, op, *inputs, frame="", constant=None, **types):
    made = (graph.node if hasattr(graph, "node") else graph.node_def).add(name=name, op=op)
    made.input.extend(inputs)
    for key, number in types.items():
        made.attr[key].type = number
    if frame:
        made.attr["frame_name"].s = frame.encode()
    if constant is not None:
        made.attr["value"].tensor.dtype = INT
        made.attr["value"].tensor.int_val.append(constant)
    return made


@pytest.fixture
def graph():
    made = schema.GraphDef()
    placeholder = node(made, "x", "Placeholder", dtype=INT)
    placeholder.attr["shape"].shape.dim.add(size=1)
    return made


def loop(graph, *, frame="f", start="x", condition=True, step="step"):
    """while state < limit: state = state + step"""
    node(graph, f"{frame}/enter", "Enter", start, frame=frame, T=INT)
    node(graph, f"{frame}/merge", "Merge", f"{frame}/enter", f"{frame}/next", T=INT)
    node(graph, f"{frame}/limit", "Const", constant=10)
    node(graph, f"{frame}/any", "Const", constant=0)
    node(graph, f"{frame}/less", "Less", f"{frame}/merge", f"{frame}/limit", T=INT)
    node(graph, f"{frame}/all", "All", f"{frame}/less", f"{frame}/any")
    if condition:
        node(graph, f"{frame}/cond", "LoopCond", f"{frame}/all")
    node(graph, f"{frame}/switch", "Switch", f"{frame}/merge", f"{frame}/cond", T=INT)
    node(graph, f"{frame}/step", "Const", constant=3)
    node(graph, f"{frame}/add", "Add", f"{frame}/switch:1", f"{frame}/{step}", T=INT)
    node(graph, f"{frame}/next", "NextIteration", f"{frame}/add", T=INT)
    return node(graph, f"{frame}/exit", "Exit", f"{frame}/switch", T=INT).name


def test_a_frame_becomes_one_loop(graph, load):
    node(graph, "y", "Neg", loop(graph), T=INT)
    assert layers.kinds(load(graph, "y"))["Loop"] == 1


def test_a_loop_without_a_condition_is_refused(graph, load):
    node(graph, "y", "Neg", loop(graph, condition=False), T=INT)
    with pytest.raises(ModelError, match=r"is damaged: its loop 'f' has no condition; export it again\.$"):
        load(graph, "y")


def test_a_loop_that_reads_what_is_missing_is_refused(graph, load):
    node(graph, "y", "Neg", loop(graph, step="gone"), T=INT)
    with pytest.raises(ModelError, match=r"f/add reads 'f/gone', which is not in it"):
        load(graph, "y")


def test_an_exit_that_feeds_its_own_loop_is_refused(graph, load):
    loop(graph, start="f/exit")
    node(graph, "y", "Neg", "f/exit", T=INT)
    with pytest.raises(ModelError, match="no graph that can be run"):
        load(graph, "y")


def test_many_loops_after_each_other_take_no_stack(graph, load):
    last = "x"
    for index in range(40):
        last = loop(graph, frame=f"f{index}", start=last)
    node(graph, "y", "Neg", last, T=INT)
    assert layers.kinds(load(graph, "y"))["Loop"] == 40


def test_a_conditional_on_what_is_fed_becomes_an_if(graph, load):
    node(graph, "zero", "Const", constant=0)
    node(graph, "less", "Less", "x", "zero", T=INT)
    node(graph, "asked", "All", "less", "zero")
    node(graph, "side", "Switch", "x", "asked", T=INT)
    node(graph, "minus", "Neg", "side:1", T=INT)
    node(graph, "same", "Identity", "side", T=INT)
    node(graph, "y", "Merge", "same", "minus", T=INT)
    assert layers.kinds(load(graph, "y"))["If"] == 1


def function(graph, name, *, calls):
    made = graph.library.function.add()
    made.signature.name = name
    made.signature.input_arg.add(name="a", type=INT)
    made.signature.output_arg.add(name="r", type=INT)
    for index in range(2):
        called = made.node_def.add(name=f"call{index}", op="PartitionedCall")
        called.input.append("a" if index == 0 else "call0:output:0")
        called.attr["f"].func.name = calls
    made.ret["r"] = "call1:output:0"


def test_a_function_that_calls_itself_is_refused(graph, load):
    function(graph, "again", calls="again")
    node(graph, "y", "PartitionedCall", "x").attr["f"].func.name = "again"
    with pytest.raises(UnsupportedError, match=r"nests functions more than 24 deep"):
        load(graph, "y")


def test_functions_that_call_each_other_twice_and_again_take_bounded_time(graph, load):
    for level in range(23):
        function(graph, f"level{level}", calls=f"level{level + 1}")
    last = graph.library.function.add()
    last.signature.name = "level23"
    last.signature.input_arg.add(name="a", type=INT)
    last.signature.output_arg.add(name="r", type=INT)
    last.ret["r"] = "a"
    node(graph, "y", "PartitionedCall", "x").attr["f"].func.name = "level0"
    with pytest.raises(UnsupportedError, match=r"calls functions more than 10000 times"):
        load(graph, "y")


def test_a_function_that_is_not_there_is_refused(graph, load):
    node(graph, "y", "PartitionedCall", "x").attr["f"].func.name = "gone"
    with pytest.raises(ModelError, match=r"'y' calls 'gone', which is not in it"):
        load(graph, "y")


def test_an_array_of_tensors_is_no_output(graph, load):
    node(graph, "size", "Const", constant=3)
    node(graph, "y", "TensorArrayV3", "size", dtype=FLOAT)
    with pytest.raises(UnsupportedError, match=r"'y' is an array of tensors"):
        load(graph, "y:1")
