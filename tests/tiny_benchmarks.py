"""Made-up benchmark folders in the real layouts, and the folders of the real data where they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"


def real(name: str) -> Path:
    """The real data's folder; skips where it is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: the real {name} data can't be read")
    return folder


def make_cmmlu(
    folder: Path, subjects: tuple[str, ...] = ("agronomy", "ancient_chinese"), rows: int = 6, dev: int = 5
) -> Path:
    """A few questions of each subject."""
    for subject in subjects:
        for split, count in (("dev", dev), ("test", rows)):
            path = folder / split / f"{subject}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(["", "Question", "A", "B", "C", "D", "Answer"])
                for n in range(count):
                    writer.writerow(
                        [n, f"{split}第{n}题，{subject}", f"甲{n}", "乙", "丙, 丁", "NA", "ABCD"[n % 4]]
                    )
    return folder


def record(
    question: str, label: Any, passage: str | None = None, options: list[str] | None = None
) -> dict[str, Any]:
    """One record of AGIEval v1."""
    offered = options if options is not None else [f"({letter}){letter}项" for letter in "ABCD"]
    return {
        "passage": passage,
        "question": question,
        "options": offered,
        "label": label,
        "answer": None,
        "other": None,
    }


def make_agieval(folder: Path) -> Path:
    """Two sets: logiqa-zh with shared passages, jec-qa-ca with answers of several letters among questions
    and examples."""
    passages = [record(f"问{n}", "ABCD"[n % 4], f"文章{n // 2}") for n in range(6)]
    several = [record(f"题{n}", label) for n, label in enumerate((["A"], ["A", "B"], ["C"], [], ["D"]))]
    for name, rows in (("logiqa-zh", passages), ("jec-qa-ca", several)):
        path = folder / "v1" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    cells = {
        "logiqa-zh": [record(f"例{n}", "B", f"例文{n}") for n in range(3)],
        "jec-qa-ca": [
            record(f"例{n}", label) for n, label in enumerate((["A", "D"], ["B", "D"], ["C"], ["B"], ["A"]))
        ],
    }
    with (folder / "few_shot_prompts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["", *cells])
        for n in range(5):
            writer.writerow(
                [f"sample {n + 1}", *(repr(rows[n]) if n < len(rows) else "" for rows in cells.values())]
            )
            writer.writerow([f"explanation {n + 1}", *("讲解" for _ in cells)])
    return folder
