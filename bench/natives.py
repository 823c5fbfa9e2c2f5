"""A model's native runtime, untouched: ONNX Runtime, TensorFlow or OpenCV's dnn, behind one call.

Each is what its users would run; here they say what is right, and how long it takes.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from enginewright_builder.tuning import inputs
from enginewright_runtime.plan.manifest import Binding

Feed = Mapping[str, Any]
Run = Callable[[Feed], Mapping[str, Any]]


def feeds(taken: Sequence[Binding], run: Run) -> Iterator[Feed]:
    """Random inputs without end, the same each time, of the first kind on which `run` gives finite results."""
    rung = next((each for each in inputs.LADDER if _is_taken(inputs.random(taken, each), run)), None)
    if rung is None:
        raise SystemExit("no random input is one that the native runtime takes")
    yield inputs.random(taken, rung)
    yield from (inputs.random(taken, rung, seed) for seed in itertools.count(1))


def _is_taken(feed: Feed, run: Run) -> bool:
    try:
        outputs = run(feed)
    except Exception as error:  # the runtimes' errors have no common class
        print(f"  (another range of inputs: {type(error).__name__})", file=sys.stderr)
        return False
    return all(np.isfinite(o).all() for o in outputs.values() if isinstance(o, np.ndarray) and o.dtype.kind == "f")


def onnx_runtime(model: Path, names: Sequence[str], *, optimized: bool = True) -> Run:
    """ONNX Runtime with its defaults; not `optimized`: each operator as the model has it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    wanted = list(names)
    return lambda feed: dict(zip(wanted, session.run(wanted, dict(feed)), strict=True))


def tensorflow(model: Path, names: Sequence[str], *, optimized: bool = True) -> Run:
    """A frozen GraphDef in TensorFlow, pruned to what is asked for. Inputs and outputs by their nodes' names.

    Not `optimized`: without the rewriter that folds and fuses before the first run. A truth value that is not fed says
    whether the model trains: it does not.
    """
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(model.read_bytes())
    nodes = sorted({name.partition(":")[0] for name in names})
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(graph_def, nodes)
    flags = [
        n.name
        for n in graph_def.node
        if n.op.startswith("Placeholder") and n.attr["dtype"].type == tf.bool.as_datatype_enum
    ]
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    options = tf.compat.v1.ConfigProto()
    options.graph_options.rewrite_options.disable_meta_optimizer = not optimized
    session = tf.compat.v1.Session(graph=graph, config=options)
    wanted = {name: name if ":" in name else f"{name}:0" for name in names}
    runs: dict[tuple[str, ...], Any] = {}

    def run(feed: Feed) -> Mapping[str, Any]:
        feed = {**dict.fromkeys(flags, False), **feed}
        given = tuple(feed)
        if given not in runs:
            feeds = [graph.get_tensor_by_name(name if ":" in name else f"{name}:0") for name in given]
            runs[given] = session.make_callable(list(wanted.values()), feed_list=feeds)
        return dict(zip(wanted, runs[given](*feed.values()), strict=True))

    return run


def opencv(model: Path, prototxt: Path, names: Sequence[str], *, optimized: bool = True) -> Run:
    """A Caffe model in OpenCV's dnn module; not `optimized`: no layers fused, no Winograd convolutions."""
    import cv2

    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    net.enableFusion(optimized)
    net.enableWinograd(optimized)
    wanted = list(names)

    def run(feed: Feed) -> Mapping[str, Any]:
        for name, value in feed.items():
            net.setInput(np.asarray(value, dtype=np.float32), name)
        return {name: found(name, output) for name, output in zip(wanted, net.forward(wanted), strict=True)}

    def found(name: str, output: Any) -> Any:
        return _detections(output) if net.getLayer(name).type == "DetectionOutput" else output

    return run


def _detections(output: Any) -> Any:
    """As Caffe gives them: in the order of images, classes and scores, without the zeros that OpenCV fills up with."""
    rows = output.reshape(-1, 7)
    rows = rows[rows.any(axis=1)]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    nothing = np.array([[0, -1, -1, -1, -1, -1, -1]], np.float32)
    return (rows if len(rows) else nothing)[None, None]
