"""An evaluation on disk: which model was asked what (`evaluation.json`), every reply (`outcomes.jsonl`), the
scores (`report.json`).

Lines are appended batch by batch and flushed; whole files are written beside their name, flushed, and
renamed. No model is needed to read.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from doitune.ability import FORMS
from doitune.data.example import Message
from doitune.errors import CheckpointError, DiskError
from doitune.evals.task import WAYS, Item, Reply, Task, Verdict, digest
from doitune.prompt.moment import is_moment
from doitune.run.layout import EVALUATION, EVALUATION_LOCK, OUTCOMES
from doitune.system.disk import make_folder, write_whole
from doitune.system.lock import hold
from doitune.system.publish import sweep

SCHEMA = "doitune.evaluation/1"
T = TypeVar("T")

MOST_CHOICES = 1000
"""Candidates and shots of a question; an edited line may claim any number, and each takes memory."""


@dataclass(frozen=True)
class Manifest:
    """Whose replies a folder has, and to what. `document` hashes the whole suite's questions, before any
    limit. `moment`: what the base's chat template took for now; "" where it has no say, and in old ones.

    `option_ids`: the token that each option was scored by, where that is one; `option_tokens`: all of them,
    where an option is several; `bare_ids`: those of protocol `paper`, where they are other ones. `titles`,
    `chances`: see Task.
    """

    suite: str
    shots: int
    document: str
    identity: Mapping[str, str]
    fingerprint: str
    headline: tuple[str, ...]
    totals: Mapping[str, int]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    option_ids: Mapping[str, int] = field(default_factory=dict)
    bare_ids: Mapping[str, int] = field(default_factory=dict)
    moment: str = ""
    option_tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    chances: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, identity: Mapping[str, str], fingerprint: str, moment: str = "") -> Manifest:
        """The manifest of `task` asked to the model that `identity` names, through the encoder with
        `fingerprint`."""
        totals = Counter(item.set for item in task.items)
        return cls(
            task.suite,
            task.shots,
            task.document,
            dict(sorted(identity.items())),
            fingerprint,
            task.headline,
            totals,
            task.groups,
            moment=moment,
            titles=task.titles,
            chances=task.chances,
        )

    @property
    def model(self) -> str:
        """Hash of the model and its encoder, as each line carries it."""
        return digest([dict(self.identity), self.fingerprint])


@dataclass(frozen=True)
class Line:
    """One line of outcomes.jsonl: the question as far as scoring and reading need it, the reply, and a
    verdict for each protocol.

    `chances` and `verdicts` are by protocol.
    """

    item: Item
    document: str
    model: str
    reply: Reply
    verdicts: Mapping[str, Verdict]
    chances: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file: `parsed, correct, note, chance` are those of `fixed`, other protocols
        have an object of their own."""
        return {
            "id": self.item.id,
            "set": self.item.set,
            "form": self.item.form,
            "way": self.item.way,
            "cluster": self.item.cluster,
            "document": self.document,
            "model": self.model,
            "label": self.item.label,
            "options": list(self.item.options),
            "choices": len(self.item.choices),
            "shots": self.item.shots,
            "question": self.item.to_read,
            "reply": self.reply.to_json(),
            **self._verdict("fixed"),
            **{name: self._verdict(name) for name in self.verdicts if name != "fixed"},
        }

    def _verdict(self, protocol: str) -> dict[str, Any]:
        verdict = self.verdicts[protocol]
        return {
            "parsed": verdict.parsed,
            "correct": verdict.correct,
            "note": verdict.note,
            "chance": self.chances[protocol],
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Line:
        """What `to_json` made. KeyError, TypeError or ValueError where it is something else."""
        parts = {"fixed": read, **({"paper": read["paper"]} if "paper" in read else {})}
        verdicts = {name: _verdict(part) for name, part in parts.items()}
        chances = {name: _share(part["chance"], "chance") for name, part in parts.items()}
        return cls(
            _item(read),
            _one(read["document"], str),
            _one(read["model"], str),
            Reply.from_json(read["reply"]),
            verdicts,
            chances,
        )


def _item(read: Mapping[str, Any]) -> Item:
    """The item of a line: its question as one turn, its candidates without their text."""
    return Item(
        id=_one(read["id"], str),
        set=_one(read["set"], str),
        form=_known(read["form"], FORMS),
        way=_known(read["way"], WAYS),
        question=(Message("user", _one(read["question"], str)),),
        label=_one(read["label"], str),
        options=_all(read["options"]),
        choices=("",) * _count(read["choices"], MOST_CHOICES),
        cluster=_one(read["cluster"], str),
        shots=_count(read.get("shots", 0), MOST_CHOICES),
    )


def _known(value: Any, known: tuple[T, ...]) -> T:
    """ValueError unless `value` is one of `known`."""
    for one in known:
        if value == one:
            return one
    raise ValueError(f"{str(value)[:80]!r} is none of {', '.join(map(str, known))}")


def _count(value: Any, most: int) -> int:
    """TypeError or ValueError unless `value` is a whole number from 0 to `most`."""
    if not 0 <= _one(value, int) <= most:
        raise ValueError(f"{str(value)[:80]} is no number from 0 to {most:,}")
    return int(value)


def _share(value: Any, name: str) -> float:
    """ValueError unless `value` is a number from 0 to 1."""
    if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
        raise ValueError(f"`{name}` is {str(value)[:80]!r}")
    return value


@contextmanager
def working_on(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes while this one evaluates or scores: two would mix their lines.
    What a killed one left half-written is removed. LockedError names the owner."""
    make_folder(folder)
    with hold(folder / EVALUATION_LOCK, f"the evaluation in {folder}"):
        sweep(folder)
        yield


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, None where it has none. CheckpointError where it cannot be read."""
    path = folder / EVALUATION
    if not path.is_file():
        return None
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if read["schema"] != SCHEMA:
            raise ValueError(f"its schema is {read['schema']!r}")
        return Manifest(
            _one(read["suite"], str),
            _one(read["shots"], int),
            _one(read["document"], str),
            _each(read["identity"], str),
            _one(read["fingerprint"], str),
            _all(read["headline"]),
            _each(read["totals"], int),
            {name: _all(sets) for name, sets in _each(read.get("groups", {}), list).items()},
            _each(read.get("option_ids", {}), int),
            _each(read.get("bare_ids", {}), int),
            _moment(read.get("moment", "")),
            {
                name: tuple(_one(token, int) for token in tokens)
                for name, tokens in _each(read.get("option_tokens", {}), list).items()
            },
            _each(read.get("titles", {}), str),
            {name: _share(value, "chance") for name, value in _one(read.get("chances", {}), dict).items()},
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not an evaluation: {error}", "move the folder away and evaluate again"
        ) from None


def _one(value: Any, kind: type[T]) -> T:
    """TypeError unless `value` is of this kind."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:80]!r} is no {kind.__name__}")
    return value


def _moment(value: Any) -> str:
    """ValueError unless `value` is a moment, or ""."""
    if value and not is_moment(value):
        raise ValueError(f"`moment` is {str(value)[:80]!r}")
    return _one(value, str)


def _each(value: Any, kind: type[T]) -> dict[str, T]:
    return {name: _one(one, kind) for name, one in _one(value, dict).items()}


def _all(value: Any) -> tuple[str, ...]:
    return tuple(_one(one, str) for one in _one(value, list))


def _verdict(read: Mapping[str, Any]) -> Verdict:
    parsed, correct = read["parsed"], _share(read["correct"], "correct")
    return Verdict(
        list(_all(parsed)) if isinstance(parsed, list) else parsed if parsed is None else _one(parsed, str),
        correct,
        _one(read["note"], str),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder and write which model is asked what. DiskError where the disk refuses."""
    document = {
        "schema": SCHEMA,
        "suite": manifest.suite,
        "shots": manifest.shots,
        "document": manifest.document,
        "identity": dict(manifest.identity),
        "fingerprint": manifest.fingerprint,
        "model": manifest.model,
        "headline": list(manifest.headline),
        "totals": dict(manifest.totals),
        "groups": {name: list(sets) for name, sets in manifest.groups.items()},
        "option_ids": dict(manifest.option_ids),
        "bare_ids": dict(manifest.bare_ids),
        "moment": manifest.moment,
        "option_tokens": {name: list(tokens) for name, tokens in manifest.option_tokens.items()},
        "titles": dict(manifest.titles),
        "chances": dict(manifest.chances),
    }
    write_json(folder / EVALUATION, document)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON document, whole or not at all. DiskError where the disk refuses."""
    _write_whole(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def _write_whole(path: Path, text: str) -> None:
    make_folder(path.parent)
    write_whole(path, text.encode("utf-8", "surrogatepass"))  # a model may write half of a surrogate pair


def read_lines(folder: Path) -> dict[str, Line]:
    """The folder's outcomes by id, the last one of an id counting. A torn last line is left out;
    CheckpointError for any other damage."""
    path = folder / OUTCOMES
    if not path.is_file():
        return {}
    found: dict[str, Line] = {}
    rows = _whole_rows(path)
    for number, row in enumerate(rows, 1):
        try:
            line = Line.from_json(json.loads(row.decode("utf-8", "surrogatepass")))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            if number == len(rows):
                break
            cure = "delete the line: its question is asked again"
            raise CheckpointError(f"not an outcome: {error!r}", cure, place=f"{path}:{number}") from None
        found[line.item.id] = line
    return found


def _whole_rows(path: Path) -> list[bytes]:
    """The file's rows that end with a line feed."""
    return path.read_bytes().split(b"\n")[:-1]


def mend(folder: Path) -> None:
    """Cut off a torn last line (a crash while writing), so that new lines do not grow on it."""
    path = folder / OUTCOMES
    if not path.is_file():
        return
    rows = _whole_rows(path)
    try:
        if rows:
            json.loads(rows[-1])
    except (ValueError, RecursionError):
        rows = rows[:-1]
    size = sum(len(row) + 1 for row in rows)
    if size < path.stat().st_size:
        os.truncate(path, size)


def append_lines(folder: Path, lines: Iterable[Line]) -> None:
    """Add lines with one write, flushed to the disk. DiskError where it refuses."""
    path = folder / OUTCOMES
    text = "".join(_row(line) for line in lines)
    try:
        with path.open("a", encoding="utf-8", errors="surrogatepass") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DiskError(
            f"{path} cannot be written: {error.strerror}", "free some room and run the same command again"
        ) from error


def rewrite_lines(folder: Path, lines: Sequence[Line]) -> None:
    """Put these lines in place of the file's, whole or not at all."""
    _write_whole(folder / OUTCOMES, "".join(_row(line) for line in lines))


def _row(line: Line) -> str:
    return json.dumps(line.to_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
