"""Maps paths of a container to folders of this machine, by substitution.

A process has no mount namespace of its own here, so where a Pod says `/plans` and mounts a volume there, its command,
arguments and environment are rewritten to the volume's local folder. What a program knows by itself, or reads from a
file, is not rewritten: it must take such paths from its arguments or environment.
"""

import re
from collections.abc import Mapping
from pathlib import Path

VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")


class PathMap:
    """Replaces whole leading path components: with /data mounted, `/data/x` and `file:///data`, not `/database`."""

    def __init__(self, local: Mapping[str, Path]) -> None:
        self._local = {mount.rstrip("/"): str(path) for mount, path in local.items()}
        # The longest first, and one pass: what was substituted is never looked at again.
        mounts = "|".join(re.escape(mount) for mount in sorted(self._local, key=len, reverse=True))
        # Not within a longer path nor a host (`s3://bucket/data`, `http://data`), but after the `//` of `file://`.
        self._pattern = re.compile(rf"(?:(?<=://)|(?<![\w./-]))({mounts})(?![\w.-])") if self._local else None

    def __call__(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: self._local[found.group(1)], text)

    def local(self, path: str) -> Path | None:
        """The local path of a path in the container, or None where no mount holds it."""
        mapped = self(path)
        return Path(mapped) if mapped != path else None


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Kubernetes' own `$(NAME)`; an unknown name stays as written, `$$` is one dollar."""

    def value(found: re.Match[str]) -> str:
        return "$" if found.group() == "$$" else variables.get(found.group(1), found.group())

    return VARIABLE.sub(value, text)
