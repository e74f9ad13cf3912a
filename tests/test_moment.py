"""A base whose chat template prints the time can be trained on one day and resumed, asked and exported on
another."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from forked import Desk
from test_prompt import ANSWER_OPENS, TEMPLATES, TURN, own

from doitune.data.example import Message
from doitune.errors import CheckpointError, ModelError
from doitune.evals import targets
from doitune.prompt import moment
from doitune.prompt.encode import encode_question, fingerprint
from doitune.prompt.rendering import Renderer
from doitune.run.encoder import moment_of, refuse_other_encoder
from doitune.run.folder import Run
from doitune.run.records import read_record

DATED = (
    "{{ bos_token }}<{{ strftime_now('%d %b %Y %H:%M:%S') }}>{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
FIRST, SECOND = "2025-03-01T23:59:58", "2025-03-02T00:00:01"


def clock(at: str) -> Callable[[], None]:
    """Plants a clock that stands still."""

    class Planted(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.fromisoformat(at)

    return lambda: setattr(moment, "datetime", Planted)


BEFORE = {
    "chatml": "f31296d603ba70c4",
    "chatml with a system of its own": "a1bff948de258d50",
    "llama2": "167280467150f923",
    "gemma": "6fad8489cc223305",
    "vicuna": "156e71e71160de68",
}


@pytest.mark.parametrize("name", list(BEFORE))
def test_a_template_without_a_clock_has_the_fingerprint_that_it_had(name: str) -> None:
    """Trap: a fingerprint with the moment in it would part every run from its own yesterday."""
    template = own(TEMPLATES[name])
    assert fingerprint(template)[:16] == BEFORE[name] and not template.reads_clock
    assert fingerprint(template.at(FIRST)) == fingerprint(template.at(SECOND)) == fingerprint(template)


def test_a_template_sees_its_moment_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    text = "{{ strftime_now('%d %b %Y, %H:%M:%S %z%Z %s') }}"
    renderer = Renderer(text, {}, FIRST)
    said = renderer.texts([([], False, None)])
    assert said == ["01 Mar 2025, 23:59:58  1740873598"] and renderer.reads_clock
    assert renderer.at(SECOND).texts([([], False, None)])[0].startswith("02 Mar 2025, 00:00:01")
    assert not Renderer("{{ strftime_now is defined }}", {}, FIRST).reads_clock


PATTERN = f"{{% for m in messages %}}{{{{ {TURN} + '<|im_end|>\n' }}}}{{% endfor %}}{ANSWER_OPENS}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{ ['one', 'two', 'three'] | random }}", "draws at random"),
        ("{{ lipsum(n=1) }}", "draws at random"),
        ("{{ joiner() }}", "the same chat in two ways"),
    ],
)
def test_a_template_that_never_says_the_same_is_refused_with_the_cure(text: str, problem: str) -> None:
    """Trap: it trains, and every later command finds another encoder."""
    with pytest.raises(ModelError, match=problem) as caught:
        own(text + PATTERN)
    assert "prompt.template=doit" in caught.value.hint
    assert own("{% if false %}" + text + "{% endif %}" + PATTERN).stop_ids, "it says so nowhere"


@pytest.mark.parametrize("value", ["yesterday", "2025-03-01", "2025-03-01T10:00:00+01:00", 5, ["x"]])
def test_a_moment_that_was_edited_is_named(tmp_path: Path, value: object) -> None:
    path = tmp_path / "origin.json"
    path.write_text(json.dumps({"base": {}, "encoder": {}, "data": {}, "moment": value}))
    with pytest.raises(CheckpointError, match="`moment` is"):
        read_record(path)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A world whose base prints the time; its run was stopped on the first day, and ended on the second."""
    made = Desk(tmp_path_factory.mktemp("moment"))
    base = made.folder / "world" / "base"
    (base / "chat_template.jinja").write_text(DATED)
    text = made.recipe.read_text(encoding="utf-8").replace(": 64", ": 128")
    made.recipe.write_text(text + "prompt:\n  template: model\n", encoding="utf-8")
    ended = made.do(*made.train("runs"), fault="step.logged:3:sigterm", before=clock(FIRST))
    assert ended.code == 143, ended.said
    assert "prints the time" in ended.said and FIRST in ended.said
    ended = made.do(*made.resume("runs"), before=clock(SECOND))
    assert ended.code == 0, ended.said
    return made


def _run(desk: Desk) -> Run:
    run = desk.run("runs")
    assert run is not None
    return run


def _moments(runs: Path) -> list[str]:
    """What each evaluation below a folder has recorded."""
    found = sorted(runs.glob("**/evaluation.json"))
    assert found
    return [json.loads(path.read_text(encoding="utf-8"))["moment"] for path in found]


@pytest.mark.slow
def test_a_run_is_asked_and_exported_at_its_own_moment(desk: Desk) -> None:
    """Trap: "trained with another encoder" a second later, for every command."""
    run, out = _run(desk), desk.folder / "merged"
    assert run.read_json("origin.json")["moment"] == FIRST == moment_of(run)
    runs = ("--runs", str(desk.folder / "runs"))
    ended = desk.do("eval", "last", "--suite", "doit-valid", *runs, before=clock(SECOND))
    assert ended.code == 0, ended.said
    assert _moments(run.folder) == [FIRST, FIRST], "the base and the adapter are asked alike"
    ended = desk.do("export", "last", "--out", str(out), "--questions", "2", *runs, before=clock(SECOND))
    assert ended.code == 0 and "prints the time of its use" in ended.said.replace("\n", " "), ended.said
    document = json.loads((out / "export.json").read_text(encoding="utf-8"))
    assert document["same"] and document["prompt"]["moment"] == FIRST
    ended = desk.do("data", "preview", str(run.folder / "recipe.yaml"), "--json", before=clock(SECOND))
    assert "01 Mar 2025" in "".join(
        piece["text"] for piece in json.loads(ended.said[ended.said.index("{") :])["rows"][0]["pieces"]
    ).replace("Ġ", " ")


def _as_a_model_recipe_says(at: str) -> Callable[[], None]:
    """A planted clock, and a base whose model recipe has `prompt.template: model`."""

    def before() -> None:
        plain = targets.resolve
        targets.resolve = lambda name, **more: plain(name, **more, overrides=["prompt.template=model"])
        clock(at)()

    return before


def test_a_bases_evaluation_goes_on_at_the_moment_of_its_beginning(desk: Desk) -> None:
    """Trap: the second half of the questions would be another day's, or refused."""
    base, place = str(desk.folder / "world" / "base"), desk.folder / "bases"
    asked = ("eval", base, "--suite", "doit-valid", "--corpus", str(desk.folder / "world" / "corpus"))
    sets = ("--runs", str(place))
    for number, (at, limit) in enumerate(((FIRST, "1"), (SECOND, "2"))):
        ended = desk.do(*asked, "--limit", limit, *sets, before=_as_a_model_recipe_says(at))
        assert ended.code == 0, ended.said
        assert len(next(place.glob("**/outcomes.jsonl")).read_bytes().splitlines()) == 2 * (number + 1)
    (found,) = place.glob("**/evaluation.json")
    assert _moments(place) == [FIRST]
    document = json.loads(found.read_text(encoding="utf-8"))
    del document["moment"]
    found.write_text(json.dumps(document), encoding="utf-8")
    ended = desk.do(*asked, *sets, before=_as_a_model_recipe_says(SECOND))
    assert ended.code == 65 and "prints the time" in ended.said and "move this folder away" in ended.said


def test_a_run_of_an_older_doitune_is_asked_at_the_time_in_its_name(desk: Desk, tmp_path: Path) -> None:
    run = Run(_copy(_run(desk).folder, tmp_path / "lab" / "20250301-235958"))
    template = own(DATED).at(FIRST)
    origin = json.loads((run.folder / "origin.json").read_text(encoding="utf-8"))
    origin["encoder"]["fingerprint"] = fingerprint(template)
    del origin["moment"]
    run.write_json("origin.json", origin)
    assert moment_of(run) == FIRST
    refuse_other_encoder(run, template.at(moment_of(run)))
    other = Run(_copy(run.folder, tmp_path / "lab" / "20250601-000000"))
    with pytest.raises(CheckpointError, match="prints the time") as caught:
        refuse_other_encoder(other, template.at(moment_of(other)))
    assert '"moment": ' in caught.value.hint and "another encoder" not in caught.value.problem
    other.write_json("origin.json", {**origin, "moment": FIRST})
    refuse_other_encoder(other, template.at(moment_of(other)))
    question = (Message("user", "1+1=?"),)
    assert encode_question(question, template) != encode_question(question, template.at(SECOND))


def _copy(folder: Path, to: Path) -> Path:
    """The records of a run, without its checkpoints."""
    to.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            (to / path.name).write_bytes(path.read_bytes())
    return to
