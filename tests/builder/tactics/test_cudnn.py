"""cuDNN's candidates: names that say configurations, and what is asked of NVIDIA's module, by a stand-in for it."""

import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_builder.device.implementation import Candidate, Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import cudnn, cudnn_frontend, cudnn_graph
from enginewright_runtime.engine.cuda.cudnn import CudnnLibrary
from enginewright_runtime.errors import UnsupportedError

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
KNOWN = frozenset({1, 2})


def convolution(dtype: str = "float16", **said: object) -> Problem:
    """With a bias, a residual and Relu."""
    image = TensorType(dtype=dtype, shape=(1, 8, 5, 5), strides=channels_last((1, 8, 5, 5)))
    attributes = {
        "strides": (1, 1), "pads": (1,) * 4, "dilations": (1, 1), "groups": 1, "activation": "Relu",
        "activation_parameters": {}, "gated": False,
    }  # fmt: skip
    inputs = (image, plain(dtype, (8, 8, 3, 3)), plain(dtype, (8,)), image)
    return Problem(kind=Kind.CONVOLUTION, inputs=inputs, outputs=(image,), attributes=attributes | said)


def test_every_activation_that_a_sketch_takes_can_be_built() -> None:
    assert set(cudnn_frontend.ACTIVATE) == cudnn_graph.ACTIVATIONS


def test_every_step_of_a_tail_that_a_sketch_takes_can_be_built() -> None:
    assert {*cudnn_frontend.UNARY, *cudnn_frontend.BINARY} == cudnn_graph.STEPS


@given(st.integers(0, 200), st.dictionaries(st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True), st.integers(0, 999)))
def test_a_name_says_its_configuration_and_back(engine: int, knobs: dict[str, int]) -> None:
    configuration = cudnn.Configuration(engine=engine, knobs=knobs)
    assert cudnn.parse(configuration.name) == configuration


def test_the_order_of_the_knobs_does_not_change_the_name() -> None:
    knobs = {"TILE_SIZE": 2, "SPLIT_K_SLC": 1}
    turned = dict(reversed(knobs.items()))
    name = cudnn.Configuration(engine=34, knobs=knobs).name
    assert name == cudnn.Configuration(engine=34, knobs=turned).name == "engine 34, SPLIT_K_SLC 1, TILE_SIZE 2"


def test_a_name_that_says_no_engine_is_refused_with_a_sentence() -> None:
    with pytest.raises(UnsupportedError, match="'algorithm 3' names no engine of cuDNN: remove it"):
        cudnn.parse("algorithm 3")


def test_where_the_device_has_no_such_library_nothing_is_offered_and_nothing_asked() -> None:
    assert cudnn.CudnnTactic().candidates(convolution(), HOPPER, KNOWN) == ()


@dataclass(frozen=True)
class _Knob:
    name: str


class Recorder:
    """A stand-in for NVIDIA's module: one graph, whose calls are written down, and plans as they are given."""

    def __init__(self, plans: list[tuple[int, dict[str, int]]], refuses: bool = False) -> None:
        self.plans, self.refuses, self.calls = plans, refuses, []  # type: ignore[var-annotated]
        self.knobs: dict[int, dict[str, int]] = {}
        self.rounding: set[int] = set()  # engines that the deselected notes are true of
        self.knob_type = SimpleNamespace(TILE_SIZE=_Knob("TILE_SIZE"), STAGES=_Knob("STAGES"))
        self.heur_mode = SimpleNamespace(A="A", B="B", FALLBACK="FALLBACK")
        self.data_type = SimpleNamespace(HALF="HALF", FLOAT="FLOAT")
        self.numerical_note = SimpleNamespace(
            NONDETERMINISTIC=0, TENSOR_CORE=1, DOWN_CONVERT_INPUTS=2, REDUCED_PRECISION_REDUCTION=3
        )
        self.cudnnGraphNotSupportedError = type("cudnnGraphNotSupportedError", (Exception,), {})

    def backend_version(self) -> int:
        return 91300

    def create_handle(self) -> str:
        return "handle"

    def set_stream(self, **_: object) -> None:
        pass

    def pygraph(self, **_: object) -> "Recorder":
        return self

    def get_execution_plan_count(self) -> int:
        return len(self.plans)

    def get_engine_and_knobs_at_index(self, index: int) -> tuple[int, dict[_Knob, int]]:
        engine, knobs = self.plans[index]
        return engine, {_Knob(name): value for name, value in knobs.items()}

    def get_knobs_for_engine(self, engine: int) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(type=_Knob(name), min_value=0, max_value=most, stride=1)
            for name, most in self.knobs.get(engine, {}).items()
        ]

    def create_execution_plan(self, engine: int, knobs: dict[_Knob, int]) -> None:
        self.calls.append(("plan", engine, {knob.name: value for knob, value in knobs.items()}))

    def check_support(self) -> None:
        if self.calls[-1][1] in self.rounding:
            raise self.cudnnGraphNotSupportedError("no plan is left")

    def build_plan_at_index(self, index: int) -> None:
        if self.refuses:
            raise self.cudnnGraphNotSupportedError("no shared memory left")
        self.calls.append(("build", index))

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        return 4096

    def serialize(self) -> list[int]:
        return [1, 2, 3]

    def __getattr__(self, name: str) -> "Recorder":
        if name.startswith("__"):
            raise AttributeError(name)
        self.calls.append(name)
        return self

    def __call__(self, *_: object, **__: object) -> "Recorder":
        return self


def offered(
    monkeypatch: pytest.MonkeyPatch, vendor: Recorder, dtype: str = "float16", **said: object
) -> tuple[Candidate, ...]:
    """The candidates of the convolution where the module is `vendor`."""
    monkeypatch.setitem(sys.modules, "cudnn", vendor)
    monkeypatch.setattr(cudnn_frontend, "_library", CudnnLibrary)
    here = replace(HOPPER, libraries={"cudnn": "9.13.0"})
    return cudnn.CudnnTactic().candidates(convolution(dtype, **said), here, KNOWN)


def test_each_plan_of_the_heuristics_is_offered_once_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [(41, {"TILE_SIZE": 3}), (10, {}), (41, {"TILE_SIZE": 3}), (20_400, {}), (41, {"TILE_SIZE": 4})]
    names = [candidate.name for candidate in offered(monkeypatch, Recorder(plans))]
    assert names == ["engine 41, TILE_SIZE 3", "engine 10", "engine 41, TILE_SIZE 4"]


def test_behind_the_heuristics_stand_the_neighbours_of_their_best_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Recorder([(41, {"TILE_SIZE": 1, "STAGES": 0}), (41, {"TILE_SIZE": 2, "STAGES": 0})])
    vendor.knobs = {41: {"TILE_SIZE": 3, "STAGES": 1, "UNSET": 9}}
    names = [candidate.name for candidate in offered(monkeypatch, vendor)]
    assert names[2:] == [
        "engine 41, STAGES 0, TILE_SIZE 0",
        "engine 41, STAGES 0, TILE_SIZE 3",
        "engine 41, STAGES 1, TILE_SIZE 1",
    ]


def test_engines_that_round_float32_are_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Recorder([(51, {"TILE_SIZE": 1}), (44, {}), (51, {"TILE_SIZE": 2})])
    vendor.rounding = {51}
    assert [each.name for each in offered(monkeypatch, vendor, "float32")] == ["engine 44"]
    assert len(offered(monkeypatch, vendor, "float16")) == 3


def test_a_candidate_builds_the_plan_that_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Recorder([(41, {"TILE_SIZE": 3, "STAGES": 2})])
    made = offered(monkeypatch, vendor)[0].build()
    assert ("plan", 41, {"TILE_SIZE": 3, "STAGES": 2}) in vendor.calls
    graph = made.steps[0].cudnn
    assert graph is not None
    assert (made.graphs[graph.graph], made.workspace_bytes, graph.workspace_bytes) == (b"\1\2\3", 4096, 4096)
    assert {pointer.name for pointer in graph.tensors.values()} == {"0", "weights", "2", "3", "4"}
    assert set(made.constants) == {"weights"}


def test_a_plan_with_a_knob_that_has_no_name_is_found_again_among_the_heuristics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vendor = Recorder([(10, {}), (32, {"NOT_SET": 2})])
    vendor.knobs = {32: {"NOT_SET": 3}}
    candidates = offered(monkeypatch, vendor)
    candidates[1].build()
    assert [candidate.name for candidate in candidates] == ["engine 10", "engine 32, NOT_SET 2"]
    assert ("build", 1) in vendor.calls


def test_a_plan_that_the_heuristics_name_no_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Recorder([(32, {"NOT_SET": 2})])
    candidate = offered(monkeypatch, vendor)[0]
    vendor.plans.clear()
    with pytest.raises(UnsupportedError, match="the heuristics do not name it"):
        candidate.build()


def test_the_epilogue_stands_behind_the_convolution_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Recorder([])
    offered(monkeypatch, vendor)
    operations = [call for call in vendor.calls if call in ("conv_fprop", "add", "relu")]
    assert operations == ["conv_fprop", "add", "add", "relu"]


@pytest.mark.parametrize(
    ("tail", "operations"),
    [
        (("Exp(v)", "Add(s0, 0.5)"), ["conv_fprop", "add", "add", "relu", "exp", "add"]),
        (("Mul(v, r)",), ["conv_fprop", "add", "relu", "mul"]),
        (("Sub(1.0, v)", "Div(1.0, s0)"), ["conv_fprop", "add", "add", "relu", "neg", "add", "reciprocal", "mul"]),
        (("Max(0.5, v)", "Pow(s0, 2.0)"), ["conv_fprop", "add", "add", "relu", "max", "pow"]),
        (("Sigmoid(v)", "Clip(s0, min=0.25)"), ["conv_fprop", "add", "add", "relu", "sigmoid", "max"]),
    ],
)
def test_a_tail_stands_behind_the_activation_and_may_have_the_residual(
    monkeypatch: pytest.MonkeyPatch, tail: tuple[str, ...], operations: list[str]
) -> None:
    vendor = Recorder([])
    offered(monkeypatch, vendor, tail=tail)
    names = {"conv_fprop", "relu", "sigmoid", *cudnn_frontend.UNARY.values(), *map(str.lower, cudnn_frontend.BINARY)}
    assert [call for call in vendor.calls if call in names] == operations


def test_a_step_that_cudnn_does_not_have_is_no_graph() -> None:
    assert cudnn_graph.sketch(convolution(tail=("Atan(v)",)), KNOWN) is None
    assert cudnn_graph.sketch(convolution(tail=("Elu(v, alpha=0.5)",)), KNOWN) is None


def test_numbers_in_a_graph_are_those_that_float32_has(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setitem(sys.modules, "cudnn", SimpleNamespace(scalar_type=SimpleNamespace(RUNTIME_PARAM="at launch")))
    cudnn_frontend._number(SimpleNamespace(tensor_scalar=lambda value, _: given.append(value)), 1 / 6)
    assert given == [0.1666666716337204]


def test_a_plan_that_cudnn_refuses_is_a_sentence_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = offered(monkeypatch, Recorder([(41, {})], refuses=True))[0]
    with pytest.raises(
        UnsupportedError, match=r"cuDNN does not take engine 41 for this layer \(no shared memory left\)"
    ):
        candidate.build()
