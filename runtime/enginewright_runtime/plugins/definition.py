"""What a plugin is, and the decorator that makes one of a NumPy function."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from enginewright_runtime.engine import values
from enginewright_runtime.errors import ModelError

Array = npt.NDArray[Any]
Attribute = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_RESERVED = ("ai.onnx", "ai.onnx.ml", "com.microsoft", "enginewright")


class PluginError(ModelError):
    """A plugin is not well defined, or gives something else than its rule says."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's dtype by NumPy's name, and its shape."""

    dtype: str
    shape: tuple[int, ...]


Rule = Callable[..., Sequence[TensorSpec] | TensorSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuda:
    """A kernel in CUDA C++, extern "C": `entry(inputs…, outputs…)`, pointers, with a thread for each of the N elements
    of the first output, `threads` a block.

    The builder puts in front of `source`: N; T, the first input's type; sizes as INPUT0_2; attributes by their names in
    capitals; and input0(at), output0(at): where the element `at`, counted in C order, lies.
    """

    source: str
    entry: str
    threads: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Triton:
    """A kernel in Triton's language: `entry(inputs…, outputs…)`, pointers, with `warps` a program.

    It is text, since the module must load where there is no Triton. The builder puts in front of `source`: triton, tl,
    and as tl.constexpr what Cuda has too; BLOCK; T, a dtype of tl's. There is a program for each `block` of the N
    elements of the first output, or as many as `programs` says for the inputs' TensorSpecs and the attributes.
    """

    source: str
    entry: str
    block: int = 1024
    programs: Callable[..., int] | None = None
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A layer of one's own. `source` is the module that it is from, once it was loaded from a file."""

    name: str
    reference: Callable[..., Array | Sequence[Array]]
    rule: Rule
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    cuda: Cuda | None = None
    triton: Triton | None = None
    source: bytes = b""

    @property
    def domain(self) -> str:
        """The ONNX domain: all of the name but its last word."""
        return self.name.rpartition(".")[0]

    @property
    def operator(self) -> str:
        """The name's last word: the ONNX operator, TensorFlow operation or Caffe layer."""
        return self.name.rpartition(".")[2]

    def complete(self, given: Mapping[str, Any]) -> dict[str, Attribute]:
        """The given attributes, and the defaults of the others. Raises PluginError for one that does not fit."""
        for name, value in given.items():
            if name not in self.attributes:
                known = ", ".join(self.attributes) or "none"
                raise PluginError(f"The plugin {self.name} has no attribute {name!r}; its attributes are {known}.")
            default = self.attributes[name]
            number = isinstance(default, float) and isinstance(value, int)
            if not number and _kind(value) is not _kind(default):
                raise PluginError(
                    f"The attribute {name!r} of the plugin {self.name} must be as {default!r}, got {value!r}."
                )
        whole = {name: given.get(name, default) for name, default in self.attributes.items()}
        return {n: float(v) if isinstance(self.attributes[n], float) else v for n, v in whole.items()}

    def outputs(self, inputs: Sequence[TensorSpec], attributes: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        """What the rule says of the outputs. Raises PluginError where it fails, or says what no tensor is."""
        try:
            said = self.rule(*inputs, **attributes)
            specs = (said,) if isinstance(said, TensorSpec) else tuple(said)
            checked = tuple(TensorSpec(spec.dtype, tuple(int(size) for size in spec.shape)) for spec in specs)
        except Exception as error:
            raise PluginError(
                f"The rule of the plugin {self.name} fails for {_listed(inputs)}: {type(error).__name__}: {error}."
            ) from error
        if not checked or any(s.dtype not in values.DTYPES or min(s.shape, default=0) < 0 for s in checked):
            raise PluginError(f"The rule of the plugin {self.name} says {list(checked)} for {_listed(inputs)}.")
        return checked

    def run(self, inputs: Sequence[Array], attributes: Mapping[str, Any]) -> tuple[Array, ...]:
        """The reference's outputs, held against the rule. Raises PluginError."""
        wanted = self.outputs([TensorSpec(values.name_of(x.dtype), x.shape) for x in inputs], attributes)
        try:
            made = self.reference(*inputs, **attributes)
        except Exception as error:
            raise PluginError(f"The plugin {self.name} failed: {type(error).__name__}: {error}.") from error
        arrays = tuple(np.asarray(array) for array in ([made] if isinstance(made, np.ndarray | np.generic) else made))
        got = tuple(TensorSpec(values.name_of(array.dtype), array.shape) for array in arrays)
        if got != wanted:
            raise PluginError(f"The plugin {self.name} gave {_listed(got)}, and its rule says {_listed(wanted)}.")
        return arrays


def like_first(x: TensorSpec, *_: TensorSpec, **__: Any) -> TensorSpec:
    """The rule where none is given: one output, as the first input is."""
    return x


def plugin(
    name: str,
    *,
    rule: Rule = like_first,
    attributes: Mapping[str, Attribute] | None = None,
    cuda: Cuda | None = None,
    triton: Triton | None = None,
) -> Callable[[Callable[..., Array | Sequence[Array]]], Plugin]:
    """Make a layer of a function from arrays and attributes to an array or several: its reference, and its proof.

    `name` is a domain and an operator, as com.example.Swish. `rule` maps the inputs' TensorSpecs and the attributes to
    the outputs'. `attributes` are all there are, with their defaults. Raises PluginError.
    """
    if not _NAME.fullmatch(name) or name.rpartition(".")[0] in _RESERVED:
        raise PluginError(
            f"A plugin's name is a domain of your own and an operator, as com.example.Swish, got {name!r}."
        )

    def make(reference: Callable[..., Array | Sequence[Array]]) -> Plugin:
        return Plugin(
            name=name, reference=reference, rule=rule, attributes=dict(attributes or {}), cuda=cuda, triton=triton
        )

    return make


def _kind(value: Any) -> type:
    return tuple if isinstance(value, list | tuple) else type(value)


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.dtype} {list(spec.shape)}" for spec in specs) or "nothing"
