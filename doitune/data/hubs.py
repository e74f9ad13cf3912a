"""The two hubs that data can be fetched from, as one thing: list the files of a revision, bring one
file.

Hugging Face through its own client (it honours HF_ENDPOINT, HF_HUB_OFFLINE and the login, and continues a cut
file with Range, from its last whole block of 10 MB); ModelScope through its public HTTP interface. Both list
a digest of each file, which `fetch` compares with what came.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from doitune.data.sources import SOURCES
from doitune.errors import DataError

REPOSITORY = "ChiyuSONG/dynamics-of-instruction-tuning"
MODELSCOPE_ADDRESS = "https://www.modelscope.cn"
LAYOUT = re.compile(rf"({'|'.join(SOURCES)})/[A-Za-z0-9][\w-]*\.json")
"""The only paths of the DoIT data that are taken from a hub or a folder."""

_TRIES = 5
_TIMEOUT_SECONDS = 30
_BLOCK_BYTES = 1 << 20

OnBytes = Callable[[int], None]
"""Called with the number of bytes that came since the last call (negative when a file starts again)."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a revision; `sha256` or `git_sha1` (of the git blob) is empty where the hub does not
    list it."""

    path: str
    bytes: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of one revision (a commit; a branch's name where the hub has no more)."""

    revision: str
    files: tuple[RemoteFile, ...]


class Hub(Protocol):
    """A place that has the data."""

    name: str

    def listing(self, revision: str) -> Listing:
        """The files of `revision` ("" is the newest). Errors: DataError."""

    def bring(
        self, file: RemoteFile, revision: str, folder: Path, on_bytes: OnBytes, again: bool = False
    ) -> None:
        """Put one file under `folder` by its path; `again` does not trust what is there. Errors:
        DataError, OSError of the disk."""


def files_of(info: Any) -> tuple[RemoteFile, ...]:
    """Every file of a repository, from the hub library's answer with the metadata of files."""
    return tuple(
        RemoteFile(
            one.rfilename,
            one.size or 0,
            one.lfs.sha256 if one.lfs else "",
            "" if one.lfs else one.blob_id or "",
        )
        for one in info.siblings or ()
    )


class HuggingFace:
    """The Hugging Face hub, or the mirror that HF_ENDPOINT names."""

    name = "huggingface"

    def __init__(self, repository: str) -> None:
        self.repository = repository

    def listing(self, revision: str) -> Listing:
        from huggingface_hub import HfApi

        with _hub_errors(self.repository):
            info = HfApi().dataset_info(self.repository, revision=revision or None, files_metadata=True)
        return Listing(info.sha or revision, files_of(info))

    def bring(
        self, file: RemoteFile, revision: str, folder: Path, on_bytes: OnBytes, again: bool = False
    ) -> None:
        from huggingface_hub import hf_hub_download

        with _hub_errors(self.repository):
            hf_hub_download(
                self.repository,
                file.path,
                repo_type="dataset",
                revision=revision,
                local_dir=folder,
                force_download=again,
                tqdm_class=counting_bar(on_bytes),
            )


class ModelScope:
    """ModelScope's public interface for data sets.

    Unverified: that the data set is there under the same name, and that its answers still have this form
    (`Data.Files` of Path, Type, Size, Sha256); both were written from its client's documented calls and are
    tested against a stand-in.
    """

    name = "modelscope"

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.base = f"{MODELSCOPE_ADDRESS}/api/v1/datasets/{quote(repository)}/repo"

    def listing(self, revision: str) -> Listing:
        wanted = revision or "master"
        address = f"{self.base}/tree?{urlencode({'Revision': wanted, 'Root': '/', 'Recursive': 'True'})}"
        with _opened(address, {}, self.repository) as answer:
            text = answer.read()
        try:
            entries = json.loads(text)["Data"]["Files"]
            files = tuple(
                RemoteFile(one["Path"], int(one["Size"]), str(one.get("Sha256") or ""))
                for one in entries
                if one["Type"] == "blob"
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"ModelScope's list of files has another form than expected ({error!r})", _OTHER_WAYS
            ) from error
        return Listing(wanted, files)

    def bring(
        self, file: RemoteFile, revision: str, folder: Path, on_bytes: OnBytes, again: bool = False
    ) -> None:
        path = folder / file.path
        if path.is_file() and path.stat().st_size == file.bytes and not again:
            on_bytes(file.bytes)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        if again:
            part.unlink(missing_ok=True)
        address = f"{self.base}?{urlencode({'Source': 'SDK', 'Revision': revision, 'FilePath': file.path})}"
        if part.is_file() and 0 < part.stat().st_size <= file.bytes:
            on_bytes(part.stat().st_size)
        for attempt in range(_TRIES):
            if _continue(address, part, file.bytes, on_bytes, self.repository):
                part.replace(path)
                return
            time.sleep(0.2 * 2**attempt)
        raise DataError(
            f"the connection broke {_TRIES} times while fetching {file.path}",
            "run the same command again: it goes on from there",
        )


_OTHER_WAYS = "try `--from huggingface`, or `--from PATH` with a folder or a git clone"


def _continue(address: str, part: Path, size: int, on_bytes: OnBytes, repository: str) -> bool:
    """Fetch what `part` lacks of `size` bytes; whether it is whole now. Errors: DataError where trying
    again can't help."""
    there = part.stat().st_size if part.is_file() else 0
    if there == size and size:
        return True
    if there > size:
        part.unlink()
        there = 0
    from http.client import HTTPException

    headers = {"Range": f"bytes={there}-"} if there else {}
    with _opened(address, headers, repository) as answer:
        if there and answer.status != 206:
            on_bytes(-there)
            there = 0
        with part.open("ab" if there else "wb") as file:
            try:
                while block := answer.read(_BLOCK_BYTES):
                    file.write(block)
                    on_bytes(len(block))
            except (HTTPException, ConnectionError, TimeoutError):
                return False
    return part.stat().st_size == size


@contextmanager
def _opened(address: str, headers: dict[str, str], repository: str) -> Iterator[Any]:
    """The answer to a request. Errors: DataError."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        answer = urlopen(Request(address, headers=headers), timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        what = (
            f"has no `{repository}` to fetch"
            if error.code in (401, 403, 404)
            else f"answered {error.code} for `{repository}`"
        )
        raise DataError(f"ModelScope {what}", _OTHER_WAYS) from error
    except (URLError, HTTPException, OSError) as error:
        raise DataError(
            f"ModelScope cannot be reached ({getattr(error, 'reason', error)})", _OTHER_WAYS
        ) from error
    with answer:
        yield answer


def quieten_client() -> None:
    """Keep the Hugging Face client's lines about its tries off the screen, unless HF_HUB_VERBOSITY asks for
    them: what came of the last one is our error."""
    from huggingface_hub.utils import logging

    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """The client's errors as a user may read them. Errors: DataError."""
    from httpx import HTTPError as ClientError
    from huggingface_hub import errors as hub

    quieten_client()
    hint = "try `--from modelscope`, a mirror in HF_ENDPOINT, or `--from PATH` with a folder or a git clone"
    try:
        yield
    except hub.OfflineModeIsEnabled as error:
        raise DataError(
            "HF_HUB_OFFLINE is set, so nothing is fetched", "unset it, or use `--from PATH`"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise DataError(f"the hub no longer has the wanted revision of `{repository}`", hint) from error
    except hub.RepositoryNotFoundError as error:
        raise DataError(f"the hub has no data set `{repository}`, or keeps it private", hint) from error
    except hub.LocalEntryNotFoundError as error:
        raise DataError(
            "the connection to the hub broke", f"run the same command again: it goes on from there; or {hint}"
        ) from error
    except hub.EntryNotFoundError as error:
        raise DataError(f"the hub lists a file of `{repository}` that it doesn't have", hint) from error
    except hub.HfHubHTTPError as error:
        raise DataError(f"the hub answered {error.response.status_code} for `{repository}`", hint) from error
    except ClientError as error:
        raise DataError(f"the hub cannot be reached ({type(error).__name__}: {error})", hint) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(
            "a file came shorter than the hub said",
            f"run the same command again: it goes on from there; or {hint}",
        ) from error


def counting_bar(on_bytes: OnBytes) -> Any:
    """A progress bar for the client that shows nothing and counts."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Counting(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            on_bytes(int(n or 0))
            return None

    return Counting
