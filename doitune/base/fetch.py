"""Bases and their parts from the Hugging Face hub, through its own client: resumed, and compared with the
digests that the hub lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from doitune.base.folder import LEFT, TAKEN, Base, find_whole
from doitune.base.pins import pin, pinned_commit
from doitune.base.record import write_record
from doitune.base.trust import refuse_lookalike, refuse_moved
from doitune.data.bring import OnProgress, Progress, differs
from doitune.data.hubs import RemoteFile, counting_bar, files_of, quieten_client
from doitune.errors import ModelError
from doitune.system.disk import need_room
from doitune.system.doing import doing

PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
"""What `base make` takes besides, from repositories without safetensors."""

ROOM = "make room, or put the hub's cache on another disk: HF_HOME"


@dataclass(frozen=True)
class HubFiles:
    """The files of a repository at one commit that are to be here. `asked`: the revision as the user names it
    ("" is the newest).

    `missing_bytes` are still to come; `folder` is the hub library's cache.
    """

    name: str
    asked: str
    revision: str
    files: tuple[RemoteFile, ...]
    missing_bytes: int
    folder: Path

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)


def look_up(name: str, revision: str = "", *, parts: bool = False) -> HubFiles:
    """What the hub has of `owner/name`. `parts`: of something to assemble from, so .bin weights are taken
    where there is nothing else.

    Errors: ModelError where it has no weights that are taken; DiskError where they do not fit.
    """
    from huggingface_hub import HfApi, constants

    revision = revision or pinned_commit(name)
    if not revision:
        refuse_lookalike(name)
    doing(f"asking the hub for {name}")
    with hub_errors(name, revision):
        info = HfApi().model_info(name, revision=revision or None, files_metadata=True)
    refuse_moved(name, info.id)
    all_files = files_of(info)
    files = _taken(all_files, TAKEN)
    if not any(file.path.endswith(".safetensors") for file in files):
        pickled = _taken(all_files, PICKLED)
        if not parts or not pickled:
            raise _without_weights(name, bool(pickled))
        files = tuple(dict.fromkeys((*files, *pickled)))
    cache = Path(constants.HF_HUB_CACHE)
    found = HubFiles(
        name, revision, info.sha or revision, files, _missing(name, info.sha or revision, files, cache), cache
    )
    need_room(cache, found.missing_bytes, ROOM)
    return found


def bring(wanted: HubFiles, on_progress: OnProgress | None = None) -> Path:
    """Fetch all files, each with the digest that the hub lists; gives their folder. Errors: ModelError,
    DiskError."""
    report, done = on_progress or (lambda progress: None), 0
    for number, file in enumerate(wanted.files, 1):
        came = 0

        def on_bytes(count: int, file: RemoteFile = file, number: int = number, before: int = done) -> None:
            nonlocal came
            came += count
            now = before + min(came, file.bytes)
            report(Progress(file.path, number, len(wanted.files), now, wanted.bytes))

        _bring_whole(wanted, file, on_bytes)
        done += file.bytes
        report(Progress(file.path, number, len(wanted.files), done, wanted.bytes))
    return _named(wanted)


def _named(wanted: HubFiles) -> Path:
    """The folder with all files, which the library's cache finds by the asked name from now on, without
    the hub."""
    from huggingface_hub import snapshot_download

    with hub_errors(wanted.name, wanted.asked):
        folder = Path(
            snapshot_download(
                wanted.name,
                revision=wanted.asked or None,
                allow_patterns=[file.path for file in wanted.files],
            )
        )
    if folder.name != wanted.revision:
        raise ModelError(
            f"{wanted.name} changed on the hub while it was fetched",
            "run the same command again, or name a commit: --revision",
        )
    return folder


def fetch_base(wanted: HubFiles, on_progress: OnProgress | None = None) -> Base:
    """A base with its record. Errors: ModelError, DiskError."""
    folder = bring(wanted, on_progress)
    pin(wanted.name, wanted.revision, find_whole(folder).files())
    write_record(folder, {"made": "fetched", "repository": wanted.name, "revision": wanted.revision})
    return Base(wanted.name, folder, wanted.revision)


def newest_commit(name: str) -> str:
    """The commit that `name` leads to today; "" where the hub is not asked (HF_HUB_OFFLINE). ModelError
    where it leads to another name."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = HfApi().model_info(name)
    except OfflineModeIsEnabled:
        return ""
    refuse_moved(name, info.id)
    return info.sha or ""


def whole_in_cache(name: str, commit: str) -> Base | None:
    """A base that is wholly in the hub library's cache at a known commit."""
    folder = cached_folder(name, commit) if commit else None
    try:
        return None if folder is None else replace(find_whole(folder), name=name, revision=commit)
    except ModelError:
        return None


def cached_folder(name: str, revision: str = "") -> Path | None:
    """The folder of a repository in the hub library's cache; None where it is not there, or the library
    knows that files of it are missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                local_files_only=True,
                allow_patterns=list(TAKEN),
                ignore_patterns=list(LEFT),
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _taken(files: Sequence[RemoteFile], patterns: Sequence[str]) -> tuple[RemoteFile, ...]:
    def is_like(file: RemoteFile, wanted: Sequence[str]) -> bool:
        return any(fnmatch(file.path, pattern) for pattern in wanted)

    return tuple(file for file in files if is_like(file, patterns) and not is_like(file, LEFT))


def _without_weights(name: str, pickled: bool) -> ModelError:
    if pickled:
        return ModelError(
            f"{name} has its weights as .bin only, which can run code and is not taken as a base",
            f"assemble one from it: `doitune base make NAME --from {name} --out FOLDER`",
        )
    return ModelError(
        f"{name} has no weights (*.safetensors)", "check the name; GGUF files are no base to train on"
    )


def _missing(name: str, revision: str, files: Sequence[RemoteFile], cache: Path) -> int:
    """Bytes that are not in the cache; what an earlier try left of a file counts as being there."""
    from huggingface_hub import try_to_load_from_cache

    absent = sum(
        file.bytes
        for file in files
        if not isinstance(try_to_load_from_cache(name, file.path, revision=revision), str)
    )
    blobs = cache / f"models--{name.replace('/', '--')}" / "blobs"
    return max(0, absent - sum(path.stat().st_size for path in blobs.glob("*.incomplete")))


def _bring_whole(wanted: HubFiles, file: RemoteFile, on_bytes: Callable[[int], None]) -> None:
    """One file as listed; asked for once more when other bytes are there."""
    from huggingface_hub import hf_hub_download

    problem = ""
    for again in (False, True):
        with hub_errors(wanted.name, wanted.revision):
            path = Path(
                hf_hub_download(
                    wanted.name,
                    file.path,
                    revision=wanted.revision,
                    force_download=again,
                    tqdm_class=counting_bar(on_bytes),
                )
            )
        problem = differs(path, file)
        if not problem:
            return
    raise ModelError(
        f"{file.path} of {wanted.name} came damaged twice: {problem}",
        "run the same command again, or set HF_ENDPOINT to a mirror",
    )


@contextmanager
def hub_errors(name: str, revision: str = "") -> Iterator[Any]:
    """The hub client's errors as a user may read them. Errors: ModelError."""
    from httpx import HTTPError
    from huggingface_hub import errors as hub

    quieten_client()
    try:
        yield
    except hub.GatedRepoError:
        raise ModelError(
            f"the hub gives {name!r} only to those who accepted its licence",
            f"accept it on https://huggingface.co/{name}, then `hf auth login`",
        ) from None
    except hub.RepositoryNotFoundError:
        raise ModelError(
            f"the hub has no model {name!r} that you may read",
            "check the name, or log in with `hf auth login`",
        ) from None
    except hub.RevisionNotFoundError:
        raise ModelError(
            f"{name} has no revision {revision!r}", "check model.revision, or --revision"
        ) from None
    except hub.OfflineModeIsEnabled:
        raise ModelError(
            f"{name!r}: HF_HUB_OFFLINE is set, so the hub is not asked",
            "unset it, or give a folder: --model FOLDER",
        ) from None
    except hub.HFValidationError:
        raise ModelError(
            f"{name!r} is no name of a model on the hub", "hub names look like owner/name"
        ) from None
    except (hub.LocalEntryNotFoundError, hub.HfHubHTTPError, HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{name!r} is neither a folder here nor to be had from the hub: {first}",
            "check the path or the network, and run the same command again: it goes on from there; "
            "`HF_ENDPOINT` names a mirror; a folder works offline: --model FOLDER",
        ) from error
