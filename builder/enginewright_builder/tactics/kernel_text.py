"""A kernel's text as the compiler gets it: self-contained, so that its digest says all that it is."""

import re
from collections.abc import Mapping
from importlib import resources

_FOLDER = resources.files("enginewright_builder") / "kernels"
_INCLUDE = re.compile(r'#include "(\w+\.cuh)"\n')


def kernel_text(file: str, choices: Mapping[str, object]) -> str:
    """The text of kernels/`file`, its headers inside where they are first included, with `choices` before it as macros.

    Includes that end in .generated are left for whoever generates them.
    """
    return "".join(f"#define {name} {value}\n" for name, value in choices.items()) + _expanded(file, set())


def _expanded(file: str, inside: set[str]) -> str:
    def header(include: re.Match[str]) -> str:
        name = include[1]
        if name in inside:
            return ""
        inside.add(name)
        return _expanded(name, inside)

    return _INCLUDE.sub(header, (_FOLDER / file).read_text(encoding="utf-8").replace("#pragma once\n", ""))
