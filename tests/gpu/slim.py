"""A wheel without what a machine never loads: `python slim.py FROM.whl TO.whl DROP... [+KEEP...]`.

Members whose names hold a DROP and no KEEP are left out; RECORD is written anew, which installers compare.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

RECORD = ".dist-info/RECORD"


def slim(source: Path, target: Path, drop: Sequence[str], keep: Sequence[str] = ()) -> None:
    """Write `target`, the wheel `source` without what `drop` names but for what `keep` does."""
    lines: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as small:
        record = next(name for name in whole.namelist() if name.endswith(RECORD))
        for name in whole.namelist():
            left_out = any(word in name for word in drop) and not any(word in name for word in keep)
            if left_out or name == record or name.endswith("/"):
                continue
            content = whole.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            small.writestr(name, content)
            lines.append((name, f"sha256={digest}", str(len(content))))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*lines, (record, "", "")])
        small.writestr(record, text.getvalue())


if __name__ == "__main__":
    words = sys.argv[3:]
    slim(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        [word for word in words if not word.startswith("+")],
        [word[1:] for word in words if word.startswith("+")],
    )
