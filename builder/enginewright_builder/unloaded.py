"""Modules that somebody else's package imports and a build never uses: they run once a name of theirs is asked for.

onnx-ir reckons with free dimensions through sympy. We never do, and importing sympy takes a third of a second, two on
slower machines. Python's own LazyLoader is no help: with it the next `import` statement of the module loads it.
"""

import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

_LOADING = threading.RLock()


class Unloaded(ModuleType):
    """A module whose code has not run; then an ordinary one."""

    def __getattr__(self, name: str) -> object:
        """Called for names that are not there, so for all but what the import system has set. Raises AttributeError."""
        with _LOADING:
            spec = self.__dict__.pop("_unloaded", None)  # gone while the code runs, which may ask for names too early
            if spec is not None:
                if spec.submodule_search_locations is not None:
                    self.__path__ = spec.submodule_search_locations
                spec.loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]  # from now on an ordinary one
        if name in self.__dict__:
            return self.__dict__[name]
        return ModuleType.__getattribute__(self, name)


def put_off() -> None:
    """Before onnx-ir is imported: sympy, and the module of onnx-ir's own that looks into sympy as soon as it runs."""
    package = find_spec("onnx_ir") if "onnx_ir" not in sys.modules else None
    if package is None or find_spec("sympy") is None:
        return
    for spec in _unused(package):
        if spec.name not in sys.modules:
            module = module_from_spec(spec)
            module.__class__ = Unloaded
            module.__dict__["_unloaded"] = spec
            module.__dict__.pop("__path__", None)  # to import a module of the package asks for it, which runs it first
            sys.modules[spec.name] = module


def _unused(package: ModuleSpec) -> Iterator[ModuleSpec]:
    own = PathFinder.find_spec(f"{package.name}._symbolic_shapes", package.submodule_search_locations)
    for spec in (find_spec("sympy"), own):
        if spec is not None and spec.loader is not None:
            yield spec
