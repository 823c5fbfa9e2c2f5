"""The plugins of a build, by name, from the files that the person who builds has named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from enginewright_runtime.errors import InputError, UsageError
from enginewright_runtime.plugins import loading
from enginewright_runtime.plugins.definition import Plugin

Plugins = Mapping[str, Plugin]
NONE: Plugins = MappingProxyType({})


def load(paths: Sequence[Path]) -> Plugins:
    """The plugins of these modules. Raises InputError, PluginError, and UsageError where two have one name."""
    found: dict[str, Plugin] = {}
    for path in paths:
        try:
            source = path.read_bytes()
        except OSError as error:
            raise InputError(f"The plugin {path} cannot be read: {error.strerror or error}.") from error
        for name, plugin in loading.load(source, f"The plugin {path}").items():
            if name in found:
                raise UsageError(
                    f"The plugin {path} defines {name}, and another file does too: build with one of them."
                )
            found[name] = plugin
    return found


def called(plugins: Plugins, word: str) -> Plugin | None:
    """The plugin that another framework calls by this word: its whole name, or the last part of it.

    Raises UsageError where several have that last part.
    """
    fitting = [plugin for plugin in plugins.values() if word in (plugin.name, plugin.operator)]
    if len(fitting) > 1:
        names = " and ".join(plugin.name for plugin in fitting)
        raise UsageError(f"The layer {word!r} could be of the plugins {names}: build with one of them.")
    return fitting[0] if fitting else None
