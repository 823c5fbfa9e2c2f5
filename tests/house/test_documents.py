"""The documents hold: links lead somewhere, and the commands shown exist with the options shown."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from enginewright_runtime import cli

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(`{3,}).*?^\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
# `enginewright` where a shell would look for a command, and the rest of its line.
COMMAND = re.compile(r"(?:^|[;&|(]|\$|--)\s*(?:\S*/bin/)?enginewright[ \t]+([^`]*)$")
OPTION = re.compile(r"(?<![\w./-])(--?[a-zA-Z][a-z-]*)")
SCRIPT = re.compile(r"python3? (bench/\w+\.py|examples/[\w/]+\.py)([^`\n#]*)")


@pytest.fixture(scope="module")
def documents(files: list[Path]) -> list[Path]:
    """Every Markdown file."""
    return [path for path in files if path.suffix == ".md"]


def prose(path: Path) -> str:
    """A document without its blocks and spans of code."""
    return INLINE.sub("", FENCED.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", FENCED.sub("", path.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code(path: Path) -> Iterator[str]:
    """Every line of code of a document: in fences, indented, or in a span; continued lines are joined."""
    text = path.read_text().replace("\\\n", " ")
    for block in FENCED.finditer(text):
        yield from block.group().splitlines()[1:-1]
    rest = FENCED.sub("", text)
    yield from (line for line in rest.splitlines() if line.startswith("    "))
    yield from INLINE.findall(rest)


def test_every_link_within_the_repository_leads_somewhere(documents: list[Path], root: Path) -> None:
    broken = []
    for path in documents:
        for target in (left or right for left, right in LINK.findall(prose(path))):
            place, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (path.parent / place).resolve() if place else path
            if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
                broken.append(f"{path.relative_to(root)}: {target}")
    assert broken == []


def test_every_command_shown_exists_with_its_options(documents: list[Path], root: Path) -> None:
    group = cli.typer.main.get_command(cli.application)
    wrong, seen = [], 0
    with group.make_context("enginewright", [], resilient_parsing=True) as context:
        own = {option for parameter in group.get_params(context) for option in parameter.opts}
        for path in documents:
            for rest in (found.group(1) for line in code(path) if (found := COMMAND.search(line.rstrip()))):
                rest, seen = re.split(r" -- | #|[|;&>] | {3,}", rest)[0], seen + 1
                name = re.split(r"[ ,.]", rest)[0]
                known = own
                if not name.startswith("-"):
                    command = group.get_command(context, name)
                    if command is None:
                        wrong.append(f"{path.relative_to(root)}: there is no command {name!r}: enginewright {rest}")
                        continue
                    known = {option for parameter in command.get_params(context) for option in parameter.opts}
                wrong += [
                    f"{path.relative_to(root)}: enginewright {name} has no {option}"
                    for option in OPTION.findall(rest)
                    if option not in known
                ]
    assert wrong == []
    assert seen > 30  # or the documents are no longer read


def test_every_script_shown_exists_with_its_options(documents: list[Path], root: Path) -> None:
    wrong = []
    for path in documents:
        for script, rest in (found for line in code(path) for found in SCRIPT.findall(line)):
            source = (root / script).read_text() if (root / script).exists() else ""
            wrong += [f"{path.relative_to(root)}: {script} does not exist"] if not source else []
            wrong += [
                f"{path.relative_to(root)}: {script} has no {option}"
                for option in OPTION.findall(rest)
                if source and f'"{option}"' not in source
            ]
    assert wrong == []
