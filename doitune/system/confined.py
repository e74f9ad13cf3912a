"""A program of ours in a process of its own, for work on what others wrote: no environment, no files but
Python's own library and the named packages; the program then gives up the rest (files, sockets, memory)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_RUN = (
    "import json, runpy, sys; sys.path += json.loads(sys.argv[1]); "
    "runpy.run_path(sys.argv[2], run_name='__main__')"
)


def start(
    program: Path, packages: Iterable[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """The process, with pipes to its input and output. `packages`: folders of what it imports."""
    folders = json.dumps(sorted({str(Path(name).parent) for name in packages}))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _RUN, folders, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environment or {}),
        cwd="/",
    )
