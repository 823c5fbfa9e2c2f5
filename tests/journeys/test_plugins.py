"""A manifest with a layer of one's own: built, served with leave, and answered right."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from enginewright_builder.network.definition import Network
from enginewright_builder.plugins import collection

FILE = Path(__file__).resolve().parents[2] / "examples" / "plugins" / "layers.py"
MANIFEST = """
apiVersion: enginewright.dev/v1alpha1
kind: InferenceEngine
metadata: {name: own}
spec:
  model: {uri: own.onnx}
  targets: [{gpuClass: cpu}]
  batchSizes: [1]
  build: {effort: fast, plugins: [layers.py]}
"""
ASK = """
import json, os, urllib.request
body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [-1, 0, 2]}]}
url = f"{os.environ['ENGINEWRIGHT_URL']}/v2/models/own/infer"
answer = json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())))
open("answer.json", "w").write(json.dumps(answer["outputs"][0]["data"]))
"""


def test_a_manifest_with_a_plugin_is_built_and_served(tmp_path: Path) -> None:
    swish = collection.load([FILE])["com.example.Swish"]
    network = Network("own")
    (y,) = network.add_plugin(swish, [network.add_input("x", ("batch", 3))], {"beta": 2.0})
    network.mark_output(y, "y")
    network.save(tmp_path / "own.onnx")
    (tmp_path / "layers.py").write_bytes(FILE.read_bytes())
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    program = str(Path(sys.executable).with_name("enginewright"))
    with socket.create_server(("127.0.0.1", 0)) as probe:  # the usual port may be another test's
        port = str(probe.getsockname()[1])
    up = [program, "up", "-f", "manifest.yaml", "--storage", "store", "--port", port, "--json"]
    command = [*up, "--", sys.executable, "-c", ASK]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    x = np.array([-1, 0, 2], np.float32)
    np.testing.assert_allclose(json.loads((tmp_path / "answer.json").read_text()), x / (1 + np.exp(-2 * x)), rtol=1e-5)
