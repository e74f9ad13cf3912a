"""llama.cpp's own quantiser, for the types that are not written here: out of llama-cpp-python where that is
installed, or out of a llama.cpp folder that the user names."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from doitune.errors import ModelError, UsageError
from doitune.system.doing import doing

K_QUANTS = ("q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")

_PROGRAM = """\
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(sys.argv[3])
sys.exit(llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params))
"""

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
    ended = subprocess.run([*quantiser, str(source), str(target), name], capture_output=True, check=False)
    if ended.returncode or not target.is_file():
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        reason = f"it ended with code {ended.returncode}" + (f": {said[0][:200]}" if said else "")
        raise ModelError(
            f"llama.cpp's quantiser did not write {kind}: {reason}", "--quant q8_0 needs no quantiser"
        )
