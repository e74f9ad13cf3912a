"""What the import of a backend brings with it."""

from __future__ import annotations

import subprocess
import sys

PICKED = """
import os, sys
from doitune.backends.pick import OFF, begin, pick_backend
from doitune.base.find import find_base
base = find_base("demo")
begin("hf", base)
assert pick_backend("hf", base)[0] == "hf"
assert "bitsandbytes" in sys.modules and OFF not in os.environ
print(*(name for name in sys.modules if name.startswith("torch._inductor.")))
"""


def test_no_compiler_is_imported_where_nothing_is_compiled() -> None:
    """It took two seconds of every training and evaluation. The switch is back as it was."""
    done = subprocess.run([sys.executable, "-c", PICKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "torch._inductor.compile_fx" not in loaded and "torch._inductor.lowering" not in loaded
