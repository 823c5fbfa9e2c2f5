"""How import and passes grow with the number of layers: time and peak memory of networks of 1,000 to 100,000 nodes.

usage: import_scale.py [--nodes 1000 10000 100000] [--pipeline cpu|gpu] [--channels 8]

The networks are residual blocks (convolution, batch norm, ReLU, convolution, add, written-out GELU) with weights of
their own, as exporters write them. Each size has a process of its own; its memory is the peak (looked for every 10 ms)
beyond what it holds with everything imported, the child that infers shapes counted in, over the size of the model file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

BLOCK = 12  # nodes


def network(nodes: int, channels: int) -> onnx.ModelProto:
    """Residual blocks of BLOCK nodes each."""
    random = np.random.default_rng(20261128)
    weights: list[onnx.TensorProto] = [numpy_helper.from_array(np.float32(0.5), "half")]
    weights += [numpy_helper.from_array(np.float32(each), name) for name, each in (("root", 1.41421), ("one", 1.0))]
    made: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int) -> str:
        weights.append(numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) * 0.05, name))
        return name

    def layer(kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind}_{len(made)}"
        made.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    x = "image"
    for index in range(nodes // BLOCK):
        norm = [weight(f"{index}.{part}", channels) for part in ("scale", "shift", "mean")]
        weights.append(numpy_helper.from_array(np.ones(channels, np.float32), f"{index}.variance"))
        y = layer("Conv", x, weight(f"{index}.a", channels, channels, 3, 3), pads=[1, 1, 1, 1])
        y = layer("Relu", layer("BatchNormalization", y, *norm, f"{index}.variance"))
        y = layer("Conv", y, weight(f"{index}.b", channels, channels, 1, 1))
        y = layer("Add", y, x)
        gate = layer("Add", layer("Erf", layer("Div", y, "root")), "one")
        y = layer("Mul", layer("Mul", y, gate), "half")
        x = layer("Identity", layer("Relu", y))
    shape = [1, channels, 8, 8]
    graph = helper.make_graph(
        made,
        "blocks",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Memory:
    """The most that this process and its children held at one time, MB of resident memory."""

    def __init__(self) -> None:
        self.most = held()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, held())

    def end(self) -> float:
        """Stop looking."""
        self._ended.set()
        self._thread.join()
        return max(self.most, held())


def held() -> float:
    """What this process and its children hold now, MB."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return sum(_resident(process) for process in ("self", *children))


def _resident(process: str) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024 / 1e6


def measure(path: Path, pipeline: str) -> dict[str, float]:
    """Import and passes of one model, in this process."""
    from enginewright_builder import passes
    from enginewright_builder.importers import from_onnx
    from enginewright_builder.network import inference, layers, specialize
    from enginewright_builder.passes import pipeline as tables

    inference.infer(b"", elements=False)  # the child is there from now on
    before, memory = held(), Memory()
    started = time.monotonic()
    read = from_onnx.load(path)
    imported = time.monotonic()
    network = specialize.with_shapes(read, {})
    passes.run(network, tables.PIPELINE if pipeline == "cpu" else tables.GPU_PIPELINE)
    ended = time.monotonic()
    return {
        "import_s": imported - started,
        "passes_s": ended - imported,
        "mb": memory.end() - before,
        "layers": layers.count(network),
    }


def main() -> None:
    """Measure every size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1_000, 10_000, 30_000, 100_000])
    parser.add_argument("--pipeline", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--channels", type=int, default=8, help="more: heavier weights")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.only:
        print(json.dumps(measure(told.only, told.pipeline)))
        return
    print("| nodes | model, MB | import, s | passes, s | us a node | memory, MB | of the model | layers after |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for nodes in told.nodes:
            path = Path(folder) / f"{nodes}.onnx"
            onnx.save(network(nodes, told.channels), path)
            command = [sys.executable, __file__, "--only", str(path), "--pipeline", told.pipeline]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            size, total = path.stat().st_size / 1e6, said["import_s"] + said["passes_s"]
            print(
                f"| {nodes} | {size:.1f} | {said['import_s']:.2f} | {said['passes_s']:.2f} | {total / nodes * 1e6:.0f} "
                f"| {said['mb']:.0f} | {said['mb'] / size:.1f} | {said['layers']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
