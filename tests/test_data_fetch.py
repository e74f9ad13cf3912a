"""The data arrive whole, from any of the places, whatever the line does; changed bytes are never taken for
the same data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from patience import HANGS
from small_hub import COMMIT, SmallHub, serving

from doitune.data import hubs as corpus_hubs
from doitune.data.checksums import origin_of
from doitune.data.corpus import open_corpus
from doitune.data.fetch import clone_commit, fetch
from doitune.errors import DataError, UsageError

MATH, CODE, GENERAL = (
    "curated/full/math_full.json",
    "curated/1000/code_1000.json",
    "synthetic/40960/general_instruction_gpt4_41k.json",
)


def lines(name: str, count: int) -> bytes:
    """A file of `count` rows."""
    turns = [
        [{"role": "user", "content": f"{name}问{n}"}, {"role": "assistant", "content": f"答{n}"}]
        for n in range(count)
    ]
    return "".join(json.dumps({"messages": pair}, ensure_ascii=False) + "\n" for pair in turns).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A hub with three files of the layout (two large ones, redirected as LFS) and two others; an empty
    cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {
        MATH: lines("math", 900),
        CODE: lines("code", 5),
        GENERAL: lines("general", 2000),
        "README.md": b"# data",
        "../evil.json": b"{}",
    }
    with serving(SmallHub(files)) as served:
        monkeypatch.setattr(corpus_hubs, "MODELSCOPE_ADDRESS", served.address)
        yield served


def fetch_from_hub(hub: SmallHub, offline: bool = False, revision: str = "") -> dict[str, object]:
    """`fetch` in a process of its own, as HF_ENDPOINT and HF_HUB_OFFLINE are read when the client is
    imported; its result or its error."""
    code = (
        "import json, sys\n"
        "from doitune.data.fetch import fetch\n"
        "from doitune.errors import DoituneError\n"
        "assert not {'torch', 'transformers', 'datasets', 'huggingface_hub'} & set(sys.modules), 'heavy import'\n"
        "from huggingface_hub import constants\n"
        "constants.DOWNLOAD_CHUNK_SIZE = 1000\n"
        "steps = []\n"
        "try:\n"
        f"    root = str(fetch(revision={revision!r}, on_progress=steps.append).root)\n"
        "    print(json.dumps({'root': root, 'bytes': [step.bytes for step in steps], 'total': steps[-1].total_bytes}))\n"
        "except DoituneError as error:\n"
        "    print(json.dumps({'kind': error.kind, 'problem': error.problem, 'hint': error.hint}))\n"
    )
    env = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": os.environ["XDG_CACHE_HOME"] + "/hf",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    result: dict[str, object] = json.loads(done.stdout)
    return result


def same(root: object, hub: SmallHub) -> bool:
    """Whether the folder holds the layout's files as served, their list, and nothing else."""
    folder = Path(str(root))
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    listed = json.loads(found.pop("checksums.json"))["files"]
    wanted = {name: hub.files[name] for name in (MATH, CODE, GENERAL)}
    return found == wanted and listed == {
        name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)} for name, data in wanted.items()
    }


def test_a_fetch_brings_the_layouts_files_follows_redirects_and_pins_the_commit(hub: SmallHub) -> None:
    result = fetch_from_hub(hub)
    assert same(result.get("root"), hub), result
    assert result["bytes"] == sorted(result["bytes"])  # type: ignore[type-var]
    assert (
        result["bytes"][-1] == result["total"] == sum(len(hub.files[name]) for name in (MATH, CODE, GENERAL))
    )  # type: ignore[index]
    corpus = open_corpus("doit")
    assert origin_of(corpus.root) == {
        "source": "huggingface",
        "repository": hub.repository,
        "revision": COMMIT,
    }
    assert len(corpus.read("curated/full")["math"]) == 900
    assert not any("README" in path or "evil" in path for _, path, _ in hub.asked)
    hub.asked.clear()
    assert same(fetch_from_hub(hub)["root"], hub)
    assert not hub.got(MATH), "whole files are not asked for again"
    assert any(COMMIT in path for _, path, _ in hub.asked), "the first fetch's commit is asked for"


def test_a_cut_connection_goes_on_where_it_broke(hub: SmallHub) -> None:
    hub.cut[GENERAL] = 1
    assert same(fetch_from_hub(hub)["root"], hub)
    first, second = hub.got(GENERAL)[-2:]
    came = len(hub.files[GENERAL]) // 2
    assert first == "" and second == f"bytes={came - came % 1000}-", (
        "the client keeps whole blocks (of 10 MB outside of this test)"
    )


def test_a_fetch_that_failed_goes_on_with_the_files_that_came(hub: SmallHub) -> None:
    hub.lost.add(GENERAL)
    failed = fetch_from_hub(hub)
    assert (
        failed["problem"] == f"the hub lists a file of `{hub.repository}` that it doesn't have"
        and failed["hint"]
    )
    with pytest.raises(DataError, match="not on this machine"):
        open_corpus("doit")
    hub.lost.clear()
    hub.asked.clear()
    assert same(fetch_from_hub(hub)["root"], hub)
    assert not hub.got(MATH) and hub.got(GENERAL)


@pytest.mark.parametrize("name", [GENERAL, CODE], ids=["lfs", "git"])
def test_a_flipped_byte_on_the_way_is_noticed_and_the_file_asked_for_again(hub: SmallHub, name: str) -> None:
    hub.flip[name] = 1
    assert same(fetch_from_hub(hub)["root"], hub)
    hub.flip[name] = 9
    Path(open_corpus("doit").root, name).unlink()
    assert str(fetch_from_hub(hub)["problem"]).startswith(f"{name} came damaged twice: its ")


def test_a_byte_flipped_on_the_disk_is_noticed_at_the_next_use_and_mended_by_a_fetch(hub: SmallHub) -> None:
    root = Path(str(fetch_from_hub(hub)["root"]))
    data = bytearray((root / MATH).read_bytes())
    data[100] ^= 1
    (root / MATH).write_bytes(data)
    with pytest.raises(DataError, match="is not the recorded") as caught:
        open_corpus("doit").read("curated/full")
    assert caught.value.hint == "run `doitune data fetch doit` again"
    assert same(fetch_from_hub(hub)["root"], hub)


def test_other_bytes_under_the_pinned_commit_are_refused(hub: SmallHub) -> None:
    fetch_from_hub(hub)
    hub.files[MATH] = lines("forged", 900)
    refused = fetch_from_hub(hub)
    assert (
        refused["problem"] == f"{MATH}: other bytes than at the first fetch, though the revision is the same"
    )
    assert open_corpus("doit").read("curated/full")["math"][0].messages[0].content == "math问0"


def test_a_newer_commit_is_taken_only_when_it_is_asked_for(hub: SmallHub) -> None:
    fetch_from_hub(hub)
    hub.commit = "a" * 40
    hub.files[MATH] = lines("newer", 900)
    assert "no longer has the wanted revision" in str(fetch_from_hub(hub)["problem"])
    assert same(fetch_from_hub(hub, revision="main")["root"], hub)
    assert origin_of(open_corpus("doit").root)["revision"] == "a" * 40


def test_offline_a_missing_repository_and_a_dead_address_are_said(hub: SmallHub) -> None:
    offline = fetch_from_hub(hub, offline=True)
    assert offline == {
        "kind": "data",
        "problem": "HF_HUB_OFFLINE is set, so nothing is fetched",
        "hint": "unset it, or use `--from PATH`",
    }
    assert not hub.asked
    hub.repository = "somebody/else"
    assert "has no data set `ChiyuSONG/dynamics-of-instruction-tuning`" in str(fetch_from_hub(hub)["problem"])


def test_modelscope_brings_the_same_files_and_goes_on_after_a_cut(hub: SmallHub) -> None:
    hub.cut[GENERAL] = 2
    steps: list[int] = []
    corpus = fetch(source="modelscope", on_progress=lambda progress: steps.append(progress.bytes))
    assert same(corpus.root, hub)
    assert origin_of(corpus.root)["source"] == "modelscope"
    assert [span != "" for span in hub.got(GENERAL)] == [False, True, True]
    assert steps == sorted(steps)


def test_modelscope_that_ignores_ranges_starts_the_file_again(hub: SmallHub) -> None:
    hub.cut[GENERAL], hub.ranges, hub.tell_sha256 = 1, False, False
    assert same(fetch(source="modelscope").root, hub)


def test_modelscopes_faults_are_said(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut[GENERAL] = 99
    with pytest.raises(DataError, match=f"the connection broke 5 times while fetching {GENERAL}"):
        fetch(source="modelscope")
    hub.cut.clear()
    hub.files[MATH], hub.flip[MATH] = lines("newer", 700), 99
    with pytest.raises(DataError, match=f"{MATH} came damaged twice: its sha256 is not the listed one"):
        fetch(source="modelscope")
    hub.flip.clear()
    hub.lost.add(MATH)
    with pytest.raises(DataError, match="ModelScope has no"):
        fetch(source="modelscope")
    with pytest.raises(DataError, match="ModelScope has no `no/such` to fetch"):
        fetch(source="modelscope", repository="no/such")
    monkeypatch.setattr(corpus_hubs, "MODELSCOPE_ADDRESS", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="ModelScope cannot be reached"):
        fetch(source="modelscope")


def test_a_folder_or_a_git_clone_is_copied_with_its_commit(hub: SmallHub, tmp_path: Path) -> None:
    clone = tmp_path / "我的 clone"
    for name in (MATH, CODE, GENERAL, "README.md"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes(hub.files[name])
    (clone / ".git" / "refs" / "heads").mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (clone / ".git" / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    assert clone_commit(clone) == "b" * 40
    (clone / ".git" / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    corpus = fetch(source=str(clone))
    assert same(corpus.root, hub)
    assert origin_of(corpus.root) == {"source": "folder", "repository": str(clone), "revision": COMMIT}
    (clone / MATH).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match="a Git LFS pointer"):
        fetch(source=str(clone))
    assert same(open_corpus("doit").root, hub), "a failed fetch leaves the corpus as it was"
    assert not hub.asked


def test_wrong_names_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`demo` is not fetched"):
        fetch("demo")
    with pytest.raises(DataError, match="neither huggingface, nor modelscope, nor a folder"):
        fetch(source="hugingface")
    with pytest.raises(DataError, match="no file of the corpus layout"):
        fetch(source=str(tmp_path))
