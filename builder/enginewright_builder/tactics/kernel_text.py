"""A kernel's text as the compiler gets it: self-contained, so that its digest says all that it is."""

import re
from collections.abc import Mapping
from importlib import resources

_FOLDER = resources.files("enginewright_builder") / "kernels"
_TAIL = '#include "tail.generated"\n'
_INCLUDE = re.compile(r'#include "(\w+\.cuh)"\n')


def kernel_text(file: str, choices: Mapping[str, object], tail: str = "") -> str:
    """The text of kernels/`file`, its headers inside where they are first included, with `choices` before it as macros.

    `tail` is a function that stands behind the activations (epilogue_text.py). Other includes that end in .generated
    are left for whoever generates them.
    """
    macros = "".join(f"#define {name} {value}\n" for name, value in choices.items())
    return macros + _expanded(file, set()).replace(_TAIL, tail)


def header(file: str) -> str:
    """The text of a header as it stands in kernels without a tail."""
    return kernel_text(file, {})


def _expanded(file: str, inside: set[str]) -> str:
    def header(include: re.Match[str]) -> str:
        name = include[1]
        if name in inside:
            return ""
        inside.add(name)
        return _expanded(name, inside)

    return _INCLUDE.sub(header, (_FOLDER / file).read_text(encoding="utf-8").replace("#pragma once\n", ""))
