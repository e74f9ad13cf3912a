"""llama.cpp's own quantiser, for the types that are not written here: out of llama-cpp-python where that is
installed, or out of a llama.cpp folder that the user names."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from doitune.errors import ModelError, UsageError
from doitune.system.doing import doing

K_QUANTS = ("q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")

_PROGRAM = """\
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"""

QUIET_SECONDS = 600.0
"""How long the file may stay as it is before that counts as a hang: the largest matrices take minutes."""

HINT = "pip install llama-cpp-python (compiled, in minutes), or --llama-cpp FOLDER with llama-quantize in it"


def find_quantiser(folder: Path | None) -> list[str]:
    """The command that quantises, without its arguments. UsageError where there is none."""
    if folder is not None:
        found = [
            path for part in (".", "bin", "build/bin") if (path := folder / part / "llama-quantize").is_file()
        ]
        if not found:
            raise UsageError(
                f"there is no llama-quantize in {folder}", "name the folder where llama.cpp was built"
            )
        return [str(found[0].resolve())]
    if find_spec("llama_cpp") is None:
        raise UsageError(f"only llama.cpp's own quantiser writes {', '.join(K_QUANTS)}", HINT)
    return [sys.executable, "-c", _PROGRAM]


def quantise(quantiser: list[str], source: Path, target: Path, kind: str) -> None:
    """Write `source` (of 16 or 32 bits) as `kind`, in a process of its own. ModelError where it fails."""
    from gguf import LlamaFileType

    number = LlamaFileType[f"MOSTLY_{kind.upper()}"]
    doing(f"llama.cpp quantises to {kind}")
    name = str(int(number)) if len(quantiser) > 1 else kind.upper()
    with TemporaryFile() as words:
        process = subprocess.Popen(
            [*quantiser, str(source), str(target), name], stdout=subprocess.DEVNULL, stderr=words
        )
        try:
            reason = "" if _ended(process, target) else f"it has written nothing for {QUIET_SECONDS:.0f} s"
        finally:
            process.kill()
            code = process.wait()
        if not reason and not code and target.is_file():
            return
        words.seek(max(0, words.seek(0, 2) - 2000))
        said = words.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    reason = reason or (f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}")
    raise ModelError(
        f"llama.cpp's quantiser did not write {kind}: {reason}" + (f": {said[0][:200]}" if said else ""),
        "--quant q8_0 needs no quantiser; another build of llama.cpp: --llama-cpp FOLDER",
    )


def _ended(process: subprocess.Popen[bytes], target: Path) -> bool:
    """Wait for its end; False where the file has not grown for QUIET_SECONDS."""
    size, until = -1, time.monotonic() + QUIET_SECONDS
    while time.monotonic() < until:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            return True
        now = target.stat().st_size if target.is_file() else 0
        if now != size:
            size, until = now, time.monotonic() + QUIET_SECONDS
    return False
