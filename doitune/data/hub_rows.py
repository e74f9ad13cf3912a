"""Rows of one's own from a data set on a hub, by `owner/name[:config][@split]`: brought into the cache once,
at the commit of that day, and read there like a folder of files.

Which files a name means says the data set's card (`configs` in the head of its README.md) or, without one,
the files' own names. Code of a data set is never run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from doitune.data.bring import OnProgress, bring_all, pinned
from doitune.data.cache import CACHE_CURE, corpora_folder
from doitune.data.checksums import difference, origin_of, read_checksums, write_checksums
from doitune.data.hubs import Hub, Listing, RemoteFile
from doitune.data.row_files import PACKED, is_row_file
from doitune.errors import DataError, DiskError
from doitune.system.disk import rename
from doitune.system.publish import alone, publish

CARD = "README.md"
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w./-]+))?(?:@([\w.-]+))?", re.ASCII)
_SAFE = re.compile(r"[\w][\w .+=()-]*(/[\w][\w .+=()-]*)*")
_RECORDS = ("dataset_info", "dataset_infos", "dataset_dict", "state")
"""JSON files of a data set that hold no rows."""
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARD = re.compile(r"-\d+-of-\d+.*$")


@dataclass(frozen=True)
class HubRows:
    """A name taken apart. `config`: one of the data set's, or the path of one of its files; "" is its only
    one. `split`: "" is train."""

    repository: str
    config: str = ""
    split: str = ""

    @property
    def folder(self) -> Path:
        """Where its rows lie in the cache."""
        parts = (self.repository, self.config)
        name = "--".join(part.replace("/", "--") for part in parts if part)
        return corpora_folder() / "hub" / f"{name}@{self.split or 'train'}"

    @property
    def asked(self) -> str:
        """The name that was written."""
        config, split = f":{self.config}" if self.config else "", f"@{self.split}" if self.split else ""
        return f"{self.repository}{config}{split}"


def hub_rows(name: str) -> HubRows | None:
    """The data set that a name may mean; None for a name that no data set has, and for that of a file."""
    found = _NAME.fullmatch(name)
    if found and not found[2] and is_row_file(Path(name)):
        return None
    return HubRows(found[1], found[2] or "", found[3] or "") if found else None


def fetch_rows(wanted: HubRows, hub: Hub, revision: str, report: OnProgress) -> Path:
    """The folder with the rows, brought from a hub. `revision`: "" is that of the first fetch, or the newest.
    Errors: DataError, LockedError while another process fetches it, DiskError."""
    final = wanted.folder
    staging = final.with_name(f".{final.name}.part")
    try:
        with alone(final, f"the data set {wanted.asked}"):
            listing = hub.listing(revision or pinned(final, hub))
            if _is_whole(final, listing.revision):
                return final
            configs = _configs(_card(hub, listing, final))
            files = tuple(sorted(chosen(wanted, listing, configs), key=lambda one: one.path))
            origin = bring_all(hub, replace(listing, files=files), staging, final, report)
            for one in files:
                rename(staging / one.path, staging / _flat(one.path))
            paths = [staging / _flat(one.path) for one in files]
            for folder in sorted((path for path in staging.rglob("*") if path.is_dir()), reverse=True):
                folder.rmdir()
            write_checksums(staging, origin, paths)
            publish(staging, final)
    except (OSError, DiskError) as error:
        problem = (
            error.problem if isinstance(error, DiskError) else f"cannot write in {final.parent}: {error}"
        )
        raise DiskError(problem, CACHE_CURE) from error
    return final


def _is_whole(final: Path, revision: str) -> bool:
    """Whether the rows of a revision are there as they came."""
    try:
        recorded = read_checksums(final)
    except DataError:
        return False
    same = bool(recorded) and origin_of(final)["revision"] == revision
    return same and not any(
        not (final / name).is_file() or difference(final / name, one) for name, one in recorded.items()
    )


def _card(hub: Hub, listing: Listing, final: Path) -> str:
    """The text of the data set's card; "" where it has none."""
    card = tuple(one for one in listing.files if one.path == CARD)
    if not card:
        return ""
    folder = final.with_name(f".{final.name}.card.part")
    bring_all(hub, replace(listing, files=card), folder, folder, lambda _: None)
    text = (folder / CARD).read_text("utf-8", "replace")
    shutil.rmtree(folder)
    return text


def _flat(path: str) -> str:
    return path.replace("/", "--")


def _configs(card: str) -> dict[str, list[tuple[str, str]]]:
    """What a card says of each config: pairs of a split and a pattern of paths. Empty where it says
    nothing that can be read."""
    import yaml

    parts = re.split(r"^---[ \t]*$", card, maxsplit=2, flags=re.MULTILINE)
    try:
        head = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in _list(head.get("configs") if isinstance(head, dict) else None):
        if isinstance(entry, dict) and (patterns := list(_patterns(entry))):
            found[str(entry.get("config_name", "default"))] = patterns
    return found


def _patterns(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    folder = str(entry.get("data_dir") or "")
    pairs: list[tuple[str, str]] = []
    for one in _list(entry.get("data_files")):
        split, paths = (one.get("split", "train"), one.get("path")) if isinstance(one, dict) else ("", one)
        pairs += [
            (str(split), str(PurePosixPath(folder, path))) for path in _list(paths) if isinstance(path, str)
        ]
    return pairs


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def chosen(
    wanted: HubRows, listing: Listing, configs: Mapping[str, list[tuple[str, str]]]
) -> list[RemoteFile]:
    """The files of rows that a name means. Errors: DataError that says which names there are."""
    files = [one for one in listing.files if _may_hold_rows(one.path)]
    if not files:
        made = any(one.path.endswith(".py") for one in listing.files)
        problem = f"`{wanted.repository}` has no file of rows (JSONL, JSON, CSV, Parquet, ...)"
        hint = "it is made by code, which is not run" if made else "name another data set"
        raise DataError(problem, hint)
    if exact := [one for one in files if one.path == wanted.config]:
        return exact
    if configs:
        return _by_card(wanted, files, configs)
    return _by_names(wanted, files)


def _may_hold_rows(path: str) -> bool:
    name = PurePosixPath(path)
    return bool(_SAFE.fullmatch(path)) and is_row_file(Path(name.name)) and name.stem not in _RECORDS


def _by_card(
    wanted: HubRows, files: Sequence[RemoteFile], configs: Mapping[str, list[tuple[str, str]]]
) -> list[RemoteFile]:
    only = next(iter(configs)) if len(configs) == 1 else "default"
    name = wanted.config or (only if only in configs else "")
    if name not in configs:
        raise _which(wanted, "config", wanted.config, [*configs])
    splits = {split or _split_of(pattern): None for split, pattern in configs[name]}
    split = wanted.split or ("train" if "train" in splits or len(splits) != 1 else next(iter(splits)))
    patterns = [pattern for one, pattern in configs[name] if (one or _split_of(pattern)) == split]
    found = [one for one in files if any(fnmatchcase(one.path, pattern) for pattern in patterns)]
    if not found:
        raise _which(wanted, "split", split, [*splits])
    return found


def _by_names(wanted: HubRows, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """By the folders and names of files: `CONFIG/train.jsonl`, `data/train-00000-of-00002.parquet`."""
    if wanted.config:
        every = sorted({_config_of(one.path) for one in files} - {""})
        files = [one for one in files if _config_of(one.path) == wanted.config]
        if not files:
            raise _which(wanted, "config", wanted.config, every)
    splits = {one.path: _split_of(one.path) for one in files}
    asked = wanted.split or "train"
    found = [one for one in files if splits[one.path] == asked]
    if not found and not wanted.split and not any(splits.values()):
        found = list(files)
    if not found:
        raise _which(wanted, "split", asked, sorted(set(splits.values()) - {""}))
    folders = sorted({_config_of(one.path) for one in found})
    if len(folders) > 1:
        raise _which(wanted, "config", "", folders)
    kinds = sorted({_kind(one.path) for one in found})
    if len(kinds) > 1:
        problem = (
            f"`{wanted.asked}` has files of several kinds, which may hold the same rows: {', '.join(kinds)}"
        )
        raise DataError(problem, f"name one file: {wanted.repository}:{found[0].path}")
    return found


def _kind(path: str) -> str:
    name = PurePosixPath(path)
    return PurePosixPath(name.stem).suffix + name.suffix if name.suffix in PACKED else name.suffix


def _config_of(path: str) -> str:
    """The folder that names a config: not `data`, nor one that is called like a split."""
    folders = PurePosixPath(path).parts[:-1]
    return next((one for one in folders if one != "data" and not _usual_split(one)), "")


def _split_of(path: str) -> str:
    """The split that a path names, by its file or a folder; "" for none. `train_sft` is no `train`."""
    parts = PurePosixPath(path).parts
    stem = _SHARD.sub("", parts[-1].partition(".")[0]).rstrip("*-_")
    for word in (stem, *re.split(r"[-. ]", stem), *reversed(parts[:-1])):
        if usual := _usual_split(word):
            return usual
    return stem if re.match(r"(train|test|valid|dev)[a-z]*_", stem) else ""


def _usual_split(word: str) -> str:
    return next((name for name, words in _SPLITS.items() if word.lower() in words), "")


def _which(wanted: HubRows, what: str, asked: str, there: Sequence[str]) -> DataError:
    names = ", ".join(there[:12]) + (", …" if len(there) > 12 else "")
    problem = (
        f"`{wanted.repository}` has no {what} `{asked}`; it has {names or 'none'}"
        if asked
        else f"`{wanted.repository}` has several {what}s: {names}"
    )
    mark = ":" if what == "config" else "@"
    return DataError(problem, f"name one: {wanted.repository}{mark}{there[0] if there else what.upper()}")
