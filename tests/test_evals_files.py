"""Benchmark data: found where they are named, fetched once with the digest of every file, refused when a
byte changed, never bundled."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from tiny_benchmarks import make_agieval, make_cmmlu, real

from doitune.data.suites import BENCHMARKS
from doitune.errors import DataError, UsageError
from doitune.evals.request import Request
from doitune.evals.suites.files import fetch, find, is_known, suite_file, task
from doitune.evals.targets import evaluate_target


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache 缓存"))


def test_a_named_folder_or_its_part_data(tmp_path):
    make_cmmlu(tmp_path / "CMMLU" / "data")
    assert (
        find("cmmlu", tmp_path / "CMMLU")
        == find("cmmlu", tmp_path / "CMMLU" / "data")
        == tmp_path / "CMMLU" / "data"
    )
    assert task("cmmlu", 5, tmp_path / "CMMLU").shots == 5
    make_agieval(tmp_path / "AGIEval" / "data")
    assert task("agieval-v1", 0, tmp_path / "AGIEval").suite == "agieval-v1"
    with pytest.raises(DataError, match="no files of CMMLU"):
        find("cmmlu", tmp_path / "AGIEval")


def test_what_is_not_here_is_said_with_its_licence():
    assert len(BENCHMARKS) >= 2
    for suite in BENCHMARKS:
        with pytest.raises(DataError, match=r"not on this machine.*licence") as caught:
            find(suite)
        assert f"--data {suite}=" in caught.value.hint


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_table_and_the_files_agree(name, tmp_path):
    """Trap: two spellings of one name, so that answers are saved under one and looked up under the other."""
    made = {"cmmlu": make_cmmlu, "agieval-v1": make_agieval}[name](tmp_path / "data")
    found = suite_file(BENCHMARKS[name])
    assert name == found.SUITE and found.SETS and set(task(name, 0, made).sets) <= set(found.SETS)
    most = BENCHMARKS[name].most_shots
    assert task(name, most, made).shots == most
    with pytest.raises(UsageError, match=f"{name} has at most {most} examples"):
        task(name, most + 1, made)


@pytest.mark.parametrize("packed", [False, True])
def test_a_fetch_records_every_file_and_a_changed_one_is_refused(tmp_path, packed):
    source = make_cmmlu(tmp_path / "data")
    (source / "test" / "notes.txt").write_text("not ours")
    if packed:
        with ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in sorted(source.rglob("*.*")):
                archive.write(path, Path("CMMLU-main/data") / path.relative_to(source))
            archive.write(source / "test" / "agronomy.csv", "__MACOSX/test/agronomy.csv")
            archive.writestr("../../test/arts.csv", "outside")
        source = tmp_path / "all.zip"
    seen: list[str] = []
    folder = fetch("cmmlu", str(source), seen.append)
    assert sorted(path.name for path in folder.rglob("*.csv")) == sorted(
        ["agronomy.csv", "ancient_chinese.csv"] * 2 + (["arts.csv"] if packed else [])
    )
    assert all(path.is_relative_to(folder) for path in tmp_path.rglob("arts.csv")), (
        "no member leaves the folder"
    )
    record = json.loads((folder / "checksums.json").read_text("utf-8"))
    assert (
        set(record["files"]) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.csv")}
        and record["licence"]
    )
    assert record["known"] is False and seen
    if packed:
        return
    assert find("cmmlu") == folder and task("cmmlu", 0).sets == ("agronomy", "ancient_chinese")
    assert fetch("cmmlu", str(source)) == folder, "again is no error"
    path = folder / "dev" / "agronomy.csv"
    path.write_text(path.read_text("utf-8").replace("甲0", "甲9"), "utf-8")
    with pytest.raises(DataError, match=r"1 files are not as they were fetched, first dev/agronomy\.csv"):
        find("cmmlu")
    with pytest.raises(DataError, match="no files of CMMLU"):
        fetch("cmmlu", str(tmp_path / "cache 缓存"))
    assert path.is_file(), "a failed fetch leaves the old data"


def test_fetching_what_cannot_be_fetched(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="no benchmark"):
        fetch("mmlu")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        fetch("cmmlu", str(tmp_path / "nothing.zip"))

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    for suite in BENCHMARKS:
        with pytest.raises(DataError, match="cannot be fetched: no route"):
            fetch(suite)


def test_the_hubs_archive_is_unpacked(tmp_path, monkeypatch):
    source = make_cmmlu(tmp_path / "data")
    asked = []

    def download(repository, name, **options):
        asked.append((repository, name, options["repo_type"]))
        path = Path(options["local_dir"]) / name
        with ZipFile(path, "w") as archive:
            for one in sorted(source.rglob("*.csv")):
                archive.write(one, one.relative_to(source))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    fetch("cmmlu")
    assert task("cmmlu", 0).sets == ("agronomy", "ancient_chinese")
    assert asked == [("haonan-li/cmmlu", "cmmlu_v1_0_1.zip", "dataset")]


@pytest.mark.parametrize("suite, name", [("cmmlu", "cmmlu"), ("agieval-v1", "agieval")])
def test_the_real_files_are_the_known_ones(suite, name):
    assert is_known(real(name), suite)


def ask_tiny(tiny_base, tmp_path, **changes):
    """A tiny base asked the made-up benchmarks; the labels of its progress."""
    data = {"cmmlu": tmp_path / "cmmlu", "agieval-v1": tmp_path / "agieval"}
    labels: dict[str, int] = {}
    request = Request(**{"suites": ("cmmlu", "agieval-v1"), "shots": (0, 2), "data": data, **changes})
    found = evaluate_target(
        str(tiny_base),
        request,
        runs=tmp_path / "runs",
        on_progress=lambda label, now: labels.__setitem__(label, now.done),
    )
    return found, labels


def test_each_number_of_shots_is_an_evaluation_of_its_own(tiny_base, tmp_path):
    make_cmmlu(tmp_path / "cmmlu")
    make_agieval(tmp_path / "agieval")
    found, labels = ask_tiny(tiny_base, tmp_path)
    assert [(one.report.suite, one.report.shots) for one in found] == [
        ("cmmlu", 0),
        ("cmmlu", 2),
        ("agieval-v1", 0),
        ("agieval-v1", 2),
    ]
    assert labels == {
        "cmmlu, 0 shots base": 12,
        "cmmlu, 2 shots base": 12,
        "agieval-v1, 0 shots base": 9,
        "agieval-v1, 2 shots base": 9,
    }
    (place,) = (tmp_path / "runs" / "bases").iterdir()
    assert {path.name for path in (place / "evals").iterdir()} == {
        "cmmlu",
        "cmmlu-2shot",
        "agieval-v1",
        "agieval-v1-2shot",
    }
    entry = found[1].entries(("fixed", "paper"))
    assert [(one["suite"], one["shots"], one["protocol"]) for one in entry] == [
        ("cmmlu", 2, "fixed"),
        ("cmmlu", 2, "paper"),
    ]
    manifest = json.loads((place / "evals" / "cmmlu-2shot" / "base" / "evaluation.json").read_text("utf-8"))
    assert sorted(manifest["option_ids"]) == list("ABCD") and len(set(manifest["option_ids"].values())) == 4
    again, labels = ask_tiny(tiny_base, tmp_path)
    assert [one.report for one in again] == [one.report for one in found] and not labels, "asked and kept"
    exact, _ = ask_tiny(tiny_base, tmp_path, exact=True, limit=2, shots=(2,))
    assert {path.name for path in (place / "evals").iterdir()} >= {
        "cmmlu-2shot-exact",
        "agieval-v1-2shot-exact",
    }
    assert all(one.report.partial for one in exact)


def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("doitune.run.model.load_model", lambda *_, **__: pytest.fail("loaded"))
    for changes, what in (
        ({"suites": ("mmlu",)}, "no suite is called 'mmlu'"),
        ({"data": {"cmlu": tmp_path}}, "no suite is called 'cmlu'"),
        ({"suites": ("cmmlu",), "data": {}}, "not on this machine"),
        ({"suites": ("doit-test",)}, "no corpus of its own"),
    ):
        with pytest.raises((DataError, UsageError), match=what):
            ask_tiny(tiny_base, tmp_path, **changes)


@pytest.mark.parametrize(
    "words",
    [
        ["--shots", "two"],
        ["--shots", "0,-1"],
        ["--data", "cmmlu"],
        ["--protocol", "mine"],
        ["--protocol", ""],
    ],
)
def test_the_command_line_refuses_what_it_cannot_read(words, capsys, monkeypatch):
    from doitune.__main__ import main

    monkeypatch.setattr("sys.argv", ["doitune", "eval", "demo", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and words[0] in capsys.readouterr().err


def test_an_adapter_apart_from_its_run_is_told_where_it_belongs(tmp_path):
    """Trap: "no run is called", of a folder that is there."""
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="apart from its run") as refused:
        evaluate_target(str(tmp_path), Request(), runs=tmp_path / "runs", on_progress=lambda *_: None)
    assert "RUN/checkpoints/STEP" in refused.value.hint
