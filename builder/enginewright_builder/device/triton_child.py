"""The process in which Triton compiles one kernel; the only module that imports Triton.

    python -m enginewright_builder.device.triton_child FOLDER

FOLDER has the kernel's module, kernel.py, and what compile_triton.py asks for, request.json. The process leaves a file
`answer` there: a line of JSON, and the cubin after it; or {"error": "..."} alone.
"""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

MODULE = "enginewright_triton_kernel"


def main(folder: Path) -> None:
    """Compile, and leave the answer."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    cubin = b""
    try:
        answer, cubin = compiled(folder / "kernel.py", request)
    except Exception as error:  # whatever the kernel's author did wrong: it ends this process and is told to the other
        answer = {"error": last_words(error)}
    (folder / "answer").write_bytes(json.dumps(answer).encode() + b"\n" + cubin)


def compiled(path: Path, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What a launch must say, and the cubin."""
    kernel = getattr(_module(path), request["entry"], None)
    if not isinstance(kernel, triton.runtime.JITFunction):
        raise ValueError(f"the source has no function {request['entry']} with triton.jit")
    constants = request["constants"]
    given = [name for name in kernel.arg_names if name not in constants]
    if len(given) != len(request["pointers"]):
        raise ValueError(f"it takes {', '.join(given)}, and the layer gives {len(request['pointers'])} pointers")
    types = dict(zip(given, request["pointers"], strict=True))
    wide = {name for name, is_wide in zip(given, request["wide"], strict=True) if is_wide}
    source = triton.compiler.ASTSource(
        kernel,
        signature={name: types.get(name, "constexpr") for name in kernel.arg_names},
        constexprs=constants,
        attrs={(place,): [["tt.divisibility", 16]] for place, name in enumerate(kernel.arg_names) if name in wide},
    )
    # Whether a * b + c is rounded once is said here, since Triton's own default changes with 3.10.
    options = {"num_warps": request["warps"], "num_stages": request["stages"], "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", request["capability"], 32), options=options)
    facts = made.metadata
    if facts.num_ctas != 1 or facts.profile_scratch_size:
        raise ValueError(f"it wants clusters ({facts.num_ctas}) or a profiler's memory, which no plan gives")
    answer = {
        "function": facts.name,
        "threads": 32 * facts.num_warps,
        "shared_bytes": facts.shared,
        "scratch_bytes": facts.global_scratch_size,
    }
    return answer, made.asm["cubin"]


def last_words(error: Exception) -> str:
    """Triton quotes the source first and says what is wrong at the end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    return lines[-1] if lines else type(error).__name__


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None, f"{path} is a module"
    assert spec.loader is not None, f"{path} is a module"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
