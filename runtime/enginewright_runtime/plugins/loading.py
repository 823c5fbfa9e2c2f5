"""A plugin's module from its source. Here foreign Python runs: whoever calls this has asked the policy first."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType, ModuleType

from enginewright_runtime.plugins.definition import Plugin, PluginError

_KEPT = 64  # modules: a plan's schedules share theirs


@lru_cache(maxsize=_KEPT)
def load(source: bytes, what: str) -> Mapping[str, Plugin]:
    """Run the module, and the plugins that it defines, by name. Raises PluginError; `what` names it in the sentence."""
    digest = sha256(source).hexdigest()[:16]
    module = ModuleType(f"enginewright_plugin_{digest}")
    try:
        exec(compile(source, f"<plugin {digest}>", "exec"), module.__dict__)
    except Exception as error:
        raise PluginError(f"{what} does not load: {type(error).__name__}: {error}.") from error
    found = {value.name: replace(value, source=source) for value in vars(module).values() if isinstance(value, Plugin)}
    if not found:
        raise PluginError(f'{what} defines no plugin: decorate a function with @plugin("com.example.Name").')
    return MappingProxyType(found)
