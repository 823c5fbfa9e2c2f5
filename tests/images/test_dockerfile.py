"""The rules of images/Dockerfile, read as text: they hold where no container engine is there to build it."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "images" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FINAL = ("operator", "builder", "runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One FROM and what follows it, a (keyword, argument) pair for each instruction."""

    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        return [argument for word, argument in self.instructions if word == keyword]


def read(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """The ARGs before the first FROM, and the stages by name."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    name, base, body = "", "", list[tuple[str, str]]()
    for line in filter(None, map(str.strip, [*text.splitlines(), "FROM end AS end"])):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            if name:
                stages[name] = Stage(base=base, instructions=tuple(body))
            base, _, name = rest.partition(" AS ")
            body = []
        elif name:
            body.append((keyword, rest.strip()))
        else:
            key, _, value = rest.partition("=")
            arguments[key] = value
    return arguments, stages


ARGUMENTS, STAGES = read(TEXT)


def test_there_is_a_stage_for_the_wheel_and_one_for_each_image():
    assert {"wheel", *FINAL} <= set(STAGES)


@pytest.mark.parametrize("name", FINAL)
def test_a_final_stage_ends_as_a_user_whose_number_is_not_zero(name: str):
    user, group = STAGES[name].all("USER")[-1].split(":")
    assert int(user) == int(group) == 65532
    after = STAGES[name].instructions[[word for word, _ in STAGES[name].instructions].index("USER") :]
    assert not any(word in ("RUN", "COPY", "ADD") for word, _ in after)


@pytest.mark.parametrize("name", FINAL)
def test_a_final_stage_installs_the_wheel_with_its_extra_and_nothing_else(name: str):
    installs = re.findall(r"pip install (.*?);", " ".join(STAGES[name].all("RUN")))
    assert len(installs) == 1
    # Nothing more, unless CUDA's generation is given.
    cuda = {"operator": "", "builder": "${CUDA:+,${CUDA},triton}", "runtime": "${CUDA:+,${CUDA}}"}[name]
    assert re.findall(r'"\$\{wheel\}\[(.+?)\]"', installs[0]) == [f"{name},tracing{cuda}"]
    assert STAGES[name].all("ARG") == ([] if name == "operator" else ['CUDA=""'])
    assert {name, "cuda12", "cuda13", "triton"} <= set(PROJECT["optional-dependencies"])
    assert "--no-cache-dir" in installs[0]
    assert "--only-binary :all:" in installs[0]  # from a source package a compiler would be asked for


@pytest.mark.parametrize("name", FINAL)
def test_a_final_stage_starts_a_command_that_the_wheel_has(name: str):
    wanted = "enginewright-operator" if name == "operator" else "enginewright"
    assert STAGES[name].all("ENTRYPOINT") == [f'["{wanted}"]']
    assert wanted in PROJECT["scripts"]


@pytest.mark.parametrize("name", FINAL)
def test_a_final_stage_takes_no_file_but_the_wheel_and_no_compiler(name: str):
    assert STAGES[name].base == "base"
    assert STAGES["base"].base == "${PYTHON_IMAGE}"
    for stage in (STAGES[name], STAGES["base"]):
        assert stage.all("COPY") == stage.all("ADD") == []
        for command in stage.all("RUN"):
            assert not re.search(r"\b(apt-get|apt|apk|gcc|g\+\+|build-essential|curl|wget|git)\b", command)
            assert set(re.findall(r"--mount=\S*from=(\w+)", command)) == {"wheel"}
            assert "pip uninstall --yes" in command


@pytest.mark.parametrize("name", FINAL)
def test_a_final_stage_is_labelled(name: str):
    labels = " ".join([*STAGES["base"].all("LABEL"), *STAGES[name].all("LABEL")])
    for label in ("title", "description", "version", "revision", "licenses", "vendor"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f'title="enginewright-{name}"' in labels


def test_a_read_only_root_file_system_is_enough():
    environment = dict(pair.split("=") for pair in " ".join(STAGES["base"].all("ENV")).split())
    assert environment["HOME"] == environment["TMPDIR"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_bases_are_pinned_by_their_full_version():
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", ARGUMENTS["PYTHON_IMAGE"])
    assert {stage.base for stage in STAGES.values()} <= {"${PYTHON_IMAGE}", *STAGES}
    assert ":latest" not in TEXT


def test_the_bases_python_is_one_that_the_project_takes():
    major, minor = re.findall(r"\d+", ARGUMENTS["PYTHON_IMAGE"])[:2]
    lowest = re.findall(r"\d+", PROJECT["requires-python"])
    assert (int(major), int(minor)) >= (int(lowest[0]), int(lowest[1]))


def test_the_wheels_build_backend_is_pinned():
    assert '"build==${BUILD_VERSION}"' in " ".join(STAGES["wheel"].all("RUN"))
    assert re.fullmatch(r"BUILD_VERSION=\d+\.\d+\.\d+", STAGES["wheel"].all("ARG")[0])


def test_nothing_is_fetched_but_by_pip_and_from_where_pip_is_told():
    assert not any(stage.all("ADD") for stage in STAGES.values())
    for stage in STAGES.values():
        for command in stage.all("RUN"):
            assert not re.search(r"https?://|--(extra-)?index-url|--trusted-host|--find-links", command)


def test_the_image_carries_the_version_of_the_package():
    source = (ROOT / "runtime" / "enginewright_runtime" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, flags=re.MULTILINE)
    assert f"VERSION={version}" in STAGES["base"].all("ARG")


def test_the_context_holds_what_the_wheel_stage_copies_and_denies_the_rest_first():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    copied = {name.rstrip("/") for each in STAGES["wheel"].all("COPY") for name in each.split()[:-1]}
    assert {line.removeprefix("!").rstrip("/") for line in lines if line.startswith("!")} == copied
    for name in copied:
        assert (ROOT / name).exists(), name
