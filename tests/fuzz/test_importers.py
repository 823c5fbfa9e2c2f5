"""A short run of the importers' fuzzer, and that it finds what there is; fuzzer.py runs a long one."""

import random
import sys
from pathlib import Path

import onnx
import pytest

from enginewright_runtime.plan.recipe import ModelFormat

sys.path.insert(0, str(Path(__file__).resolve().parent))  # tests are no packages
import fuzzer
import mutations
import seeds


@pytest.mark.parametrize("kind", [ModelFormat.CAFFE, ModelFormat.TENSORFLOW])
def test_hundreds_of_damaged_models_are_networks_or_sentences(kind: ModelFormat) -> None:
    counts, findings = fuzzer.run(kind, 7, range(300))
    assert findings == []
    assert counts["refused"] > 150
    assert counts["valid"] > 15


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(ModelFormat))
def test_ten_thousand_damaged_models_are_networks_or_sentences(kind: ModelFormat) -> None:
    assert fuzzer.run(kind, 8, range(10_000))[1] == []


def test_sound_models_are_read(tmp_path: Path) -> None:
    for kind in (ModelFormat.TENSORFLOW, ModelFormat.CAFFE):
        for sound in seeds.seeds(kind):
            for name, content in sound.files.items():
                (tmp_path / name).write_bytes(content)
            assert fuzzer.read(sound, tmp_path) == "valid", sound.name


def test_a_mutation_is_made_again_from_its_number() -> None:
    assert fuzzer.mutated(ModelFormat.CAFFE, 1, 5)[1] == fuzzer.mutated(ModelFormat.CAFFE, 1, 5)[1]
    assert fuzzer.mutated(ModelFormat.CAFFE, 1, 5)[1] != fuzzer.mutated(ModelFormat.CAFFE, 1, 6)[1]


@pytest.mark.parametrize(
    ("careless", "found"),
    [
        ("raise IndexError('a reader that does not check')", "IndexError: a reader that does not check"),
        ("import os; os.kill(os.getpid(), 11)", "the process ended with -11"),
        ("bytearray(8 << 30)", "MemoryError"),
        ("open('/etc/hostname').close()", "opened /etc/hostname"),
        ("raise ModelError('two\\nlines.')", "not one sentence"),
    ],
)
def test_the_fuzzer_finds_what_is_there_to_find(
    careless: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "careless.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {str(fuzzer.PROGRAM.parent)!r})\n"
        "import fuzzer\nfrom enginewright_runtime.errors import ModelError\n"
        f"def read(*_, **__):\n    {careless}\n"
        "fuzzer.table.read = read\nfuzzer.worker(sys.argv[2:])\n"
    )
    monkeypatch.setattr(fuzzer, "PROGRAM", program)
    _, findings = fuzzer.run(ModelFormat.CAFFE, 1, range(2))
    assert [finding.number for finding in findings] == [0, 1]
    assert found in findings[0].what


def test_a_message_is_put_into_itself_many_times() -> None:
    model = onnx.parser.parse_model(seeds.ONNX_TEXTS["branches"])
    dice = random.Random(1)
    assert max(mutations.changed(model, dice).ByteSize() for _ in range(400)) > 20 * model.ByteSize()
