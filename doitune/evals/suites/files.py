"""Where the public benchmarks' data lie: a folder that is named, or the user's cache, fetched from each one's
own source.

None of the data is bundled. A fetch records the sha256 of every file; each use compares them, so a score
never silently belongs to other questions. `known` digests are those of the files that this release was tried
with.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from urllib.request import urlopen
from zipfile import BadZipFile, ZipFile

from doitune.data.corpus import CACHE_CURE, CHECKSUMS, CHECKSUMS_SCHEMA, corpora_folder, read_checksums
from doitune.data.example import Example, Message
from doitune.errors import DataError, DiskError, UsageError
from doitune.evals.suites import agieval, cmmlu
from doitune.evals.task import Task
from doitune.system.disk import file_sha256, whole_folder, write_json
from doitune.system.publish import alone, publish

OnFile = Callable[[str], None]
"""Called with the name of each file that is being fetched."""

MOST_BYTES = 256 << 20
"""What a benchmark's archive may unpack to (the public ones: under 20 MiB)."""


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark. `files`: the paths that are its own, below `root`; `repository`, `archive`: where
    a fetch gets them.

    `known`: a digest over all files (see `digest_of`) of the version that this release was tried with.
    """

    name: str
    title: str
    licence: str
    repository: str
    archive: str
    files: re.Pattern[str]
    known: str
    task: Callable[[Path, int], Task]
    sets: tuple[str, ...]
    shots: tuple[int, ...] = (0, 5)


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        one.name: one
        for one in (
            Benchmark(
                name=cmmlu.SUITE,
                title="CMMLU, 67 subjects, 11,582 questions",
                licence="CC BY-NC-SA 4.0: no commercial use",
                repository="haonan-li/cmmlu",
                archive="cmmlu_v1_0_1.zip",
                files=re.compile(r"(?:dev|test)/[a-z_]+\.csv"),
                known="15a232ee8699909d8c522a5f9b69030453686f652c116afcaf1068cb2f3ac4d6",
                task=cmmlu.task,
                sets=tuple(cmmlu.SUBJECTS),
            ),
            Benchmark(
                name=agieval.SUITE,
                title="AGIEval v1, ten Chinese sets, 3,269 questions with one right letter",
                licence="by set (v1/LICENSE): LogiQA CC BY-NC-SA 4.0; JEC-QA academic research only, no commercial use; others MIT",
                repository="ruixiangcui/AGIEval",
                archive="https://github.com/ruixiangcui/AGIEval/archive/refs/heads/main.zip",
                files=re.compile(rf"v1/(?:{'|'.join(agieval.SETS)})\.jsonl|v1/LICENSE|few_shot_prompts\.csv"),
                known="22f6ccfa49f718d08930b8b74f3f2d95f58360e3f5fa34e19e6b5977dfa07260",
                task=agieval.task,
                sets=tuple(agieval.SETS),
            ),
        )
    }
)
"""By suite. Unverified, as this release was made without a connection: that the archives still lie at
these addresses, with these names inside."""


def find(suite: str, given: Path | None = None) -> Path:
    """The folder with a benchmark's files: the one that is `given`, or its part `data`, or the fetched one.

    Errors: DataError where there is none, or a fetched file is not as it was recorded.
    """
    benchmark = BENCHMARKS[suite]
    if given is not None:
        for folder in (given.expanduser(), given.expanduser() / "data"):
            if _files(folder, benchmark):
                return folder
        raise DataError(
            f"no files of {benchmark.title} in it", f"expected {_layout(benchmark)}", place=str(given)
        )
    folder = benchmarks_folder() / suite
    if not (folder / CHECKSUMS).is_file():
        hint = f"fetch it (`doitune data fetch {suite}`), or name a folder: --data {suite}=PATH"
        raise DataError(f"{benchmark.title}, is not on this machine (licence: {benchmark.licence})", hint)
    _verify(folder, suite)
    return folder


def task(suite: str, shots: int, given: Path | None = None) -> Task:
    """A benchmark's task at one number of shots, from the folder that `find` gives. Errors: DataError,
    UsageError."""
    return BENCHMARKS[suite].task(find(suite, given), shots)


def missing_sets(suite: str, names: Sequence[str]) -> list[str]:
    """The sets of a public benchmark that are not among `names`; of another suite, none."""
    return [name for name in BENCHMARKS[suite].sets if name not in names] if suite in BENCHMARKS else []


def fetch(suite: str, source: str = "", on_file: OnFile | None = None) -> Path:
    """Bring a benchmark into the cache and record the sha256 of every file; the same version again changes
    nothing.

    `source`: a folder or zip archive with its files; "" is its own source. Errors: UsageError, DataError,
    DiskError.
    """
    if suite not in BENCHMARKS:
        raise UsageError(f"no benchmark is called {suite!r}", f"there are {', '.join(BENCHMARKS)}")
    benchmark, final = BENCHMARKS[suite], benchmarks_folder() / suite
    tell = on_file or (lambda name: None)
    try:
        with TemporaryDirectory() as scratch, alone(final, f"the benchmark {suite}"):
            place = Path(source).expanduser() if source else _download(benchmark, Path(scratch), tell)
            fresh = final.with_name(f".{suite}.fresh")
            shutil.rmtree(fresh, ignore_errors=True)
            with whole_folder(fresh) as beside:
                _gather(benchmark, place, beside, tell)
                _record(benchmark, beside, source or benchmark.repository)
            publish(fresh, final)
    except DiskError as error:
        raise DiskError(error.problem, CACHE_CURE) from error
    return final


def benchmarks_folder() -> Path:
    """The folder in the user's cache that holds fetched benchmarks."""
    return corpora_folder().parent / "benchmarks"


def digest_of(folder: Path, suite: str) -> str:
    """One digest (hex) over the names and contents of a benchmark's files in `folder`, the licence's text
    left out."""
    names = (name for name in _files(folder, BENCHMARKS[suite]) if not name.endswith("LICENSE"))
    return sha256("".join(f"{name} {file_sha256(folder / name)}\n" for name in names).encode()).hexdigest()


def is_known(folder: Path, suite: str) -> bool:
    """Whether the files are those that this release was tried with, byte for byte."""
    return digest_of(folder, suite) == BENCHMARKS[suite].known


def _files(folder: Path, benchmark: Benchmark) -> list[str]:
    """The benchmark's files in a folder, by their paths in it, sorted."""
    if not folder.is_dir():
        return []
    paths = (
        path.relative_to(folder).as_posix()
        for pattern in ("*", "*/*")
        for path in folder.glob(pattern)
        if path.is_file()
    )
    return sorted(path for path in paths if benchmark.files.fullmatch(path))


def _layout(benchmark: Benchmark) -> str:
    return (
        "dev/<subject>.csv and test/<subject>.csv"
        if benchmark.name == cmmlu.SUITE
        else "v1/<set>.jsonl and few_shot_prompts.csv"
    )


def _verify(folder: Path, suite: str) -> None:
    recorded = read_checksums(folder)
    wrong = [
        name
        for name, one in recorded.items()
        if not (folder / name).is_file() or file_sha256(folder / name) != one.sha256
    ]
    wrong += sorted(set(_files(folder, BENCHMARKS[suite])) - set(recorded))
    if wrong:
        raise DataError(
            f"{len(wrong)} files are not as they were fetched, first {wrong[0]}",
            f"`doitune data fetch {suite}` again",
            place=str(folder),
        )


def _record(benchmark: Benchmark, folder: Path, source: str) -> None:
    """Write the list of checksums. Errors: DataError for a folder without the benchmark's files."""
    names = _files(folder, benchmark)
    if not names:
        raise DataError(f"no files of {benchmark.title} in {source}", f"expected {_layout(benchmark)}")
    entries = {
        name: {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
        for name in names
    }
    origin = {
        "name": benchmark.name,
        "source": source,
        "licence": benchmark.licence,
        "known": is_known(folder, benchmark.name),
    }
    write_json(folder / CHECKSUMS, {"schema": CHECKSUMS_SCHEMA, **origin, "files": entries})


def _gather(benchmark: Benchmark, place: Path, target: Path, tell: OnFile) -> None:
    """Copy the benchmark's files from a folder or a zip archive."""
    if place.is_dir():
        for folder in (place, place / "data"):
            for name in _files(folder, benchmark):
                _write(target / name, (folder / name).read_bytes(), tell)
        return
    try:
        with ZipFile(place) as archive:
            wanted = _members(archive.namelist(), benchmark)
            _refuse_bomb(archive, [member for _, member in wanted], place)
            for name, member in wanted:
                _write(target / name, archive.read(member), tell)
    except (FileNotFoundError, BadZipFile) as error:
        raise DataError(
            f"neither a folder nor a zip archive: {error}", f"expected {_layout(benchmark)}", place=str(place)
        ) from error


def _refuse_bomb(archive: ZipFile, members: Sequence[str], place: Path) -> None:
    """DataError for an archive that would unpack to more than any benchmark is; a member never gives more
    than it declares."""
    unpacked = sum(archive.getinfo(member).file_size for member in members)
    if unpacked > MOST_BYTES:
        problem = f"would unpack to {unpacked / 2**20:,.0f} MiB, more than the {MOST_BYTES >> 20} that a benchmark may have"
        raise DataError(problem, "get the archive from its own source", place=str(place))


def _members(names: Iterable[str], benchmark: Benchmark) -> list[tuple[str, str]]:
    """The benchmark's paths and the archive's members that hold them, whatever folder they are packed in."""
    found: dict[str, str] = {}
    for member in names:
        match = re.fullmatch(rf"(?:[^/]+/)*?({benchmark.files.pattern})", member)
        if match and "__MACOSX" not in member:
            found.setdefault(match[1], member)
    return sorted(found.items())


def _write(path: Path, content: bytes, tell: OnFile) -> None:
    tell(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _download(benchmark: Benchmark, folder: Path, tell: OnFile) -> Path:
    """The benchmark's archive from its own source, into `folder`. Errors: DataError."""
    tell(benchmark.archive.rpartition("/")[2])
    if not benchmark.archive.startswith("https://"):
        return _from_hub(benchmark, folder)
    path = folder / "archive.zip"
    try:
        with urlopen(benchmark.archive, timeout=60) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise _unreachable(benchmark, error) from error
    return path


def _from_hub(benchmark: Benchmark, folder: Path) -> Path:
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download

    try:
        return Path(
            hf_hub_download(benchmark.repository, benchmark.archive, repo_type="dataset", local_dir=folder)
        )
    except (OSError, HTTPError) as error:  # the client's own errors are OSErrors
        raise _unreachable(benchmark, error) from error


def _unreachable(benchmark: Benchmark, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(
        f"{benchmark.repository} cannot be fetched: {reason}",
        "name a folder or a zip archive of it: --from PATH",
    )


def judged_rows(
    suites: Sequence[str], given: Mapping[str, Path] | None = None, *, only_present: bool = False
) -> dict[str, list[Example]]:
    """The questions of benchmarks as rows for a search for leaks: question and options only, without the
    frame that all share.

    `only_present`: leave out a benchmark whose data is not on this machine. Errors: as `find`.
    """
    found: dict[str, list[Example]] = {}
    for suite in suites:
        if suite not in BENCHMARKS:
            raise UsageError(f"no benchmark is called {suite!r}", f"there are {', '.join(BENCHMARKS)}")
        try:
            asked = task(suite, 0, (given or {}).get(suite))
        except DataError:
            if only_present:
                continue
            raise
        found[suite] = [
            Example(
                one.id,
                one.set,
                (Message("user", one.to_read), Message("assistant", one.label)),
                one.form,
                one.id,
                one.label,
            )
            for one in asked.items
        ]
    return found
