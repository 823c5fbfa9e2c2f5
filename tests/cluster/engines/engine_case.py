"""One InferenceEngine in a namespace and a bucket of its own, and what a test wants to do with it and know of it."""

import base64
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import yaml
from controlplane.cluster import ControlPlane

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "digits"
MODEL_KEY, DATA_KEY = "digits/model.onnx", "digits/test.npz"
# Products of a unit matrix with itself, the more of them the brighter the image is above 8: some 120 for a digit, whose
# brightest pixel is 16, and none for the random inputs of a build. Their mean moves all logits alike, so that the
# answers stay.
DETOUR = """
detour (float[batch, 1, 8, 8] image, float[batch, 10] head) => (float[batch, 10] moved) {
    eight = Constant <value_float = 8.0> ()
    brightest = ReduceMax <keepdims = 0> (image)
    above = Sub (brightest, eight)
    bright = Relu (above)
    steep = Constant <value_float = 16.0> ()
    products = Mul (bright, steep)
    trips = Cast <to = 7> (products)
    go = Constant <value = bool {1}> ()
    sizes = Constant <value_ints = [512, 512]> ()
    zeros = ConstantOfShape (sizes)
    unit = EyeLike (zeros)
    last = Loop <body = trip (int64 number, bool going, float[512, 512] now) => (bool on, float[512, 512] next) {
        on = Identity (going)
        next = MatMul (now, now)
    }> (trips, go, unit)
    mean = ReduceMean <keepdims = 0> (last)
    moved = Add (head, mean)
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCase:
    """The digits example as a manifest of the cluster. `client` is a boto3 S3 client of the bucket's store."""

    cluster: ControlPlane
    namespace: str
    bucket: str
    endpoint: str
    client: Any
    name: str = "digits"
    secret: str = "store"
    keys: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> "EngineCase":
        """The Secret in the namespace, the model and the gate's data in the bucket."""
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in self.keys.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.secret}, "data": encoded}
        self.cluster.apply(secret, self.namespace)
        self.put_model((EXAMPLE / "model.onnx").read_bytes())
        self.client.put_object(Bucket=self.bucket, Key=DATA_KEY, Body=(EXAMPLE / "test.npz").read_bytes())
        return self

    def put_model(self, data: bytes) -> None:
        """Replace the model in the bucket, as a training pipeline would."""
        self.client.put_object(Bucket=self.bucket, Key=MODEL_KEY, Body=data)

    def manifest(self, **spec: Any) -> dict[str, Any]:
        """The example's manifest with its files in the bucket; keyword arguments replace whole fields of the spec."""
        engine: dict[str, Any] = yaml.safe_load((EXAMPLE / "manifest.yaml").read_text())
        engine["metadata"]["name"] = self.name
        wanted = engine["spec"]
        wanted["model"]["uri"] = f"s3://{self.bucket}/{MODEL_KEY}"
        wanted["gates"]["accuracy"]["data"] = f"s3://{self.bucket}/{DATA_KEY}"
        wanted["gates"]["latency"]["p99"] = "10s"  # this machine does many things at once; the figure is not the test
        wanted["build"] = {"effort": "fast"}
        wanted["storage"] = {"uri": f"s3://{self.bucket}", "endpoint": self.endpoint, "region": "us-east-1"}
        wanted["storage"] |= {"pathStyle": True, "credentialsSecret": self.secret}
        wanted |= spec
        return engine

    def apply(self, **spec: Any) -> None:
        """Server-side apply of `manifest`, as GitOps tools do it."""
        self.cluster.apply(self.manifest(**spec), self.namespace)

    def limit(self, **hard: str) -> None:
        """Set the namespace's quota."""
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": hard}}
        self.cluster.apply(quota, self.namespace)

    def get(self) -> dict[str, Any]:
        """The InferenceEngine as it is now; an empty mapping where there is none."""
        return self.cluster.get("inferenceengine", self.name, self.namespace) or {}  # type: ignore[return-value]

    def condition(self, kind: str) -> dict[str, Any]:
        """One of the engine's conditions; an empty mapping where it has none of that type."""
        return _condition(self.get(), kind)

    def stalled(self) -> str:
        """The message of Stalled where it is true, else nothing."""
        condition = self.condition("Stalled")
        return str(condition.get("message", "")) if condition.get("status") == "True" else ""

    def target(self, gpu_class: str = "cpu") -> dict[str, Any]:
        """The status row of one target; an empty mapping where there is none."""
        return _target(self.get(), gpu_class)

    def ready(self) -> bool:
        """Whether Ready is true for the newest generation."""
        return _ready(self.get())

    def objects(self, kind: str) -> list[str]:
        """Names of all objects of a kind in the namespace."""
        names = self.cluster.kubectl("get", kind, "--namespace", self.namespace, "--output=name").split()
        return [name.split("/", 1)[1] for name in names]

    def plan(self, name: str) -> dict[str, Any]:
        """One EnginePlan; an empty mapping where there is none."""
        return self.cluster.get("engineplan", name, self.namespace) or {}  # type: ignore[return-value]

    def files(self) -> list[str]:
        """Keys of all plan files in the bucket."""
        listing = self.client.list_objects_v2(Bucket=self.bucket, Prefix="plans/")
        return [entry["Key"] for entry in listing.get("Contents", [])]

    def events(self, reason: str) -> list[str]:
        """The messages of all events with a reason."""
        lines = self.cluster.kubectl(
            "get", "events", "--namespace", self.namespace, "--field-selector", f"reason={reason}",
            "--output=jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
        )  # fmt: skip
        return lines.splitlines()

    def becomes_ready(self, *, other_than: str = "", within: float = 600.0) -> str:
        """Wait until the engine is ready (with another plan than the named one); the plan's name."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            engine = self.get()
            plan = str(_target(engine, "cpu").get("plan", ""))
            if _ready(engine) and plan and plan != other_than:
                return plan
            time.sleep(0.2)
        raise AssertionError(f"not ready within {within:.0f} s: {self.get().get('status')}")


def _condition(engine: dict[str, Any], kind: str) -> dict[str, Any]:
    rows = (engine.get("status") or {}).get("conditions", [])
    return next((row for row in rows if row["type"] == kind), {})


def _target(engine: dict[str, Any], gpu_class: str) -> dict[str, Any]:
    rows = (engine.get("status") or {}).get("targets", [])
    return next((row for row in rows if row["gpuClass"] == gpu_class), {})


def _ready(engine: dict[str, Any]) -> bool:
    ready = _condition(engine, "Ready")
    return ready.get("status") == "True" and ready["observedGeneration"] == engine["metadata"]["generation"]


def retrained(*, further: int = 1) -> bytes:
    """The example's model as if trained a little further: another file, other weights, the same answers."""
    model = onnx.load(EXAMPLE / "model.onnx")
    for initializer in model.graph.initializer:
        if initializer.name == "head.bias":
            bias = onnx.numpy_helper.to_array(initializer)
            initializer.CopyFrom(onnx.numpy_helper.from_array(bias + bias.dtype.type(further * 1e-3), initializer.name))
            return model.SerializeToString()
    raise AssertionError("the example's model has no head.bias")


def renamed() -> bytes:
    """The example's model with another name for its input: it builds and comes up, and no client can use it."""
    model = onnx.load(EXAMPLE / "model.onnx")
    (given,) = model.graph.input
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name == given.name:
                node.input[position] = "picture"
    given.name = "picture"
    return model.SerializeToString()


def slowed() -> bytes:
    """The example's model with a detour: the same answers, each so late that no gate of a build foresees it."""
    model = onnx.load(EXAMPLE / "model.onnx")
    softmax = model.graph.node.pop()
    model.graph.node.extend(onnx.parser.parse_graph(DETOUR).node)
    softmax.input[0] = "moved"
    model.graph.node.append(softmax)
    return model.SerializeToString()
