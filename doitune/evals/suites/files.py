"""Where the benchmarks' data lie: a folder that is named, or the user's cache, fetched from each one's own
source.

None of the data is bundled. A fetch records the sha256 of every file; each use compares them, so a score
never silently belongs to other questions.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, cast
from zipfile import BadZipFile, ZipFile

from doitune.data.cache import CACHE_CURE, corpora_folder
from doitune.data.checksums import CHECKSUMS, CHECKSUMS_SCHEMA, read_checksums
from doitune.data.example import Example, Message
from doitune.data.suites import BENCHMARKS, Benchmark
from doitune.errors import DataError, DiskError, UsageError
from doitune.evals.task import Task
from doitune.system.disk import file_sha256, whole_folder, write_json
from doitune.system.doing import doing
from doitune.system.paths import from_home
from doitune.system.publish import alone, publish

OnFile = Callable[[str], None]
"""Called with the name of each file that is being fetched."""

MOST_BYTES = 256 << 20
"""What a benchmark's archive may unpack to (the public ones: under 20 MiB)."""


class SuiteFile(Protocol):
    """What a benchmark's file in this folder gives.

    `SUITE`: the benchmark's name. `SETS`: all sets that its data have. `FILES`: the paths that are its own,
    as a pattern for paths in the folder of its data; `LAYOUT`: them in words. `task(folder, shots)`: its
    questions; DataError for missing or broken files.
    """

    SUITE: str
    SETS: Sequence[str]
    FILES: re.Pattern[str]
    LAYOUT: str

    def task(self, folder: Path, shots: int) -> Task: ...


def suite_file(benchmark: Benchmark) -> SuiteFile:
    """The module that reads a benchmark's data."""
    return cast(SuiteFile, import_module(f"doitune.evals.suites.{benchmark.file}"))


def find(suite: str, given: Path | None = None) -> Path:
    """The folder with a benchmark's files: the one that is `given`, or its part `data`, or the fetched one.

    Errors: DataError where there is none, or a fetched file is not as it was recorded.
    """
    benchmark = BENCHMARKS[suite]
    if given is not None:
        for folder in (from_home(given), from_home(given) / "data"):
            if _files(folder, benchmark):
                return folder
        raise DataError(
            f"no files of {benchmark.title} in it",
            f"expected {suite_file(benchmark).LAYOUT}",
            place=str(given),
        )
    folder = benchmarks_folder() / suite
    if not (folder / CHECKSUMS).is_file():
        hint = f"fetch it (`doitune data fetch {suite}`), or name a folder: --data {suite}=PATH"
        raise DataError(f"{benchmark.title}, is not on this machine (licence: {benchmark.licence})", hint)
    _verify(folder, suite)
    return folder


def task(suite: str, shots: int, given: Path | None = None) -> Task:
    """A benchmark's task at one number of shots, from the folder that `find` gives. Errors: DataError;
    UsageError for more shots than it has examples."""
    benchmark = BENCHMARKS[suite]
    if not 0 <= shots <= benchmark.most_shots:
        raise UsageError(
            f"{suite} has at most {benchmark.most_shots} examples for each set, not {shots}",
            f"try --shots 0,{benchmark.most_shots}" if benchmark.most_shots else "leave --shots away",
        )
    return suite_file(benchmark).task(find(suite, given), shots)


def missing_sets(suite: str, names: Sequence[str]) -> list[str]:
    """The sets of a benchmark that are not among `names`; of another suite, none."""
    if suite not in BENCHMARKS:
        return []
    return [name for name in suite_file(BENCHMARKS[suite]).SETS if name not in names]


def fetch(suite: str, source: str = "", on_file: OnFile = lambda name: None) -> Path:
    """Bring a benchmark into the cache and record the sha256 of every file; the same version again changes
    nothing.

    `source`: a folder or zip archive with its files; "" is its own source. Errors: UsageError, DataError,
    DiskError.
    """
    benchmark, final = _known(suite), benchmarks_folder() / suite
    try:
        with TemporaryDirectory() as scratch, alone(final, f"the benchmark {suite}"):
            place = from_home(source) if source else _download(benchmark, Path(scratch), on_file)
            fresh = final.with_name(f".{suite}.fresh")
            shutil.rmtree(fresh, ignore_errors=True)
            with whole_folder(fresh) as beside:
                _gather(benchmark, place, beside, on_file)
                _record(benchmark, beside, source or benchmark.repository)
            publish(fresh, final)
    except DiskError as error:
        raise DiskError(error.problem, CACHE_CURE) from error
    return final


def _known(suite: str) -> Benchmark:
    """The benchmark of this name. UsageError."""
    if suite not in BENCHMARKS:
        raise UsageError(f"no benchmark is called {suite!r}", f"there are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[suite]


def benchmarks_folder() -> Path:
    """The folder of fetched benchmarks in the user's cache."""
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
    files = suite_file(benchmark).FILES
    return sorted(path for path in paths if files.fullmatch(path))


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
        raise DataError(
            f"no files of {benchmark.title} in {source}", f"expected {suite_file(benchmark).LAYOUT}"
        )
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


def _gather(benchmark: Benchmark, place: Path, target: Path, on_file: OnFile) -> None:
    """Copy the benchmark's files from a folder or a zip archive."""
    if place.is_dir():
        for folder in (place, place / "data"):
            for name in _files(folder, benchmark):
                _write(target / name, (folder / name).read_bytes(), on_file)
        return
    try:
        with ZipFile(place) as archive:
            wanted = _members(archive.namelist(), benchmark)
            _refuse_bomb(archive, [member for _, member in wanted], place)
            for name, member in wanted:
                _write(target / name, archive.read(member), on_file)
    except (FileNotFoundError, BadZipFile) as error:
        raise DataError(
            f"neither a folder nor a zip archive: {error}",
            f"expected {suite_file(benchmark).LAYOUT}",
            place=str(place),
        ) from error


def _refuse_bomb(archive: ZipFile, members: Sequence[str], place: Path) -> None:
    """DataError for an archive that would unpack to more than any benchmark is; a member never gives more
    than it declares."""
    unpacked = sum(archive.getinfo(member).file_size for member in members)
    if unpacked > MOST_BYTES:
        raise DataError(
            f"would unpack to {unpacked / 2**20:,.0f} MiB, more than the {MOST_BYTES >> 20} that a benchmark "
            "may have",
            "get the archive from its own source",
            place=str(place),
        )


def _members(names: Iterable[str], benchmark: Benchmark) -> list[tuple[str, str]]:
    """The benchmark's paths and the archive's members with them, whatever folder they are packed in."""
    pattern = re.compile(rf"(?:[^/]+/)*?({suite_file(benchmark).FILES.pattern})")
    found: dict[str, str] = {}
    for member in names:
        match = pattern.fullmatch(member)
        if match and "__MACOSX" not in member:
            found.setdefault(match[1], member)
    return sorted(found.items())


def _write(path: Path, content: bytes, on_file: OnFile) -> None:
    on_file(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _download(benchmark: Benchmark, folder: Path, on_file: OnFile) -> Path:
    """The benchmark's archive from its own source, into `folder`. Errors: DataError."""
    from urllib.request import urlopen

    on_file(benchmark.archive.rpartition("/")[2])
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
        _known(suite)
        doing(f"reading the questions of {suite}")
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
