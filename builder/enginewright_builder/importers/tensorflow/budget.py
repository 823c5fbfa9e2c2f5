"""What a model may make of itself at import: a file's few lines could ask for any number of layers or bytes."""

from dataclasses import dataclass

from enginewright_runtime.errors import UnsupportedError

_MOST_CALLS = 10_000  # of functions, branches and bodies
_MOST_VALUES = 1 << 17  # layers' outputs and constants: the largest published graphs have some ten thousand
_MOST_OUTPUTS = 1 << 12  # of one layer
_FACTOR, _LEAST = 8, 256 << 20  # bytes of constants: as often the file's, and what a small one may take all the same


@dataclass(slots=True, kw_only=True)
class Budget:
    """What is left of it; `where` names the model, `size` is its file's in bytes. All raise UnsupportedError."""

    where: str
    size: int
    _calls: int = 0
    _values: int = 0
    _bytes: int = 0

    def call(self, node: str) -> None:
        """One more function, branch or body is written."""
        self._calls += 1
        if self._calls > _MOST_CALLS:
            raise UnsupportedError(f"{self.where} calls functions more than {_MOST_CALLS} times, at {node!r}.")

    def make(self, values: int, node: str) -> None:
        """One more layer or constant is written."""
        if values > _MOST_OUTPUTS:
            raise UnsupportedError(f"{self.where} has {values} outputs of {node!r}, wanted {_MOST_OUTPUTS} at most.")
        self._values += values
        if self._values > _MOST_VALUES:
            raise UnsupportedError(f"{self.where} makes more than {_MOST_VALUES} tensors, at {node!r}.")

    def hold(self, size: int, node: str) -> None:
        """One more constant is held."""
        self._bytes += size
        most = _FACTOR * self.size + _LEAST
        if self._bytes > most:
            raise UnsupportedError(
                f"{self.where} of {self.size} bytes spreads its constants over more than {most}, at {node!r}."
            )
