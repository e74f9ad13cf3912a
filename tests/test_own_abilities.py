"""Abilities of one's own: any name found in the rows; budgets, ledger and notes work for them as for the ten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tiny_evals import tiny
from typer.testing import CliRunner

from doitune.cli.app import app
from doitune.data.check import check
from doitune.data.corpus import open_corpus
from doitune.data.example import Message
from doitune.errors import DataError
from doitune.evals.evaluate import evaluate, score_folder
from doitune.evals.report import Report
from doitune.evals.request import Request, corpus_task
from doitune.evals.saved import read_lines
from doitune.prepare.draw import draw, drawn, say_everything
from doitune.prompt.encode import encode, encode_question
from doitune.recipe.resolve import resolve


def write_rows(path: Path, counts: Mapping[str | None, int]) -> Path:
    """Rows of these abilities, None for rows that name none."""
    lines = []
    for name, count in counts.items():
        for number in range(count):
            turns = [
                {"role": "user", "content": f"{name}的第{number}问？"},
                {"role": "assistant", "content": f"{name}答{number}"},
            ]
            lines.append({"messages": turns, **({} if name is None else {"ability": name})})
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def ledger_of(path: Path, *overrides: str) -> dict[str, tuple[int, int, int]]:
    """asked, found, kept by ability."""
    resolved = resolve("own", model="demo", corpus=str(path), overrides=["data.holdout=0", *overrides])
    lines = draw(resolved.recipe)[0].ledger.lines
    return {name: (line.asked, line.found, line.kept) for name, line in lines.items()}


def test_without_a_budget_every_row_is_taken(tmp_path: Path) -> None:
    """Trap: rows of abilities that no recipe names, or of none, passed the check and could not be trained."""
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 7, None: 5, "math": 3, "synthetic": 2})
    assert ledger_of(rows) == {
        "math": (3, 3, 3),
        "synthetic": (2, 2, 2),
        "general": (5, 5, 5),
        "客服": (7, 7, 7),
    }
    assert check(open_corpus(str(rows))).clean
    resolved = resolve("own", model="demo", corpus=str(rows))
    found = drawn(resolved)
    assert len(found["ids"]) == len(set(found["ids"])) == 17
    [said] = say_everything(resolved.recipe.data, draw(resolved.recipe)[0].ledger)
    assert said.endswith("every row is learnt from (math 3, synthetic 2, general 5, 客服 7)")


def test_budgets_of_own_abilities(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 40, "摘要": 6, None: 30})
    assert ledger_of(rows, "data.budget={客服: 10, general: all}") == {
        "general": (30, 30, 30),
        "客服": (10, 40, 10),
        "摘要": (0, 6, 0),
    }
    # what own rows have shares; the paper's ten would find nothing
    assert ledger_of(rows, "data.budget.share_equally=30") == {
        "general": (12, 30, 12),
        "客服": (12, 40, 12),
        "摘要": (6, 6, 6),
    }
    assert ledger_of(rows, "data.budget={share_equally: 30, 客服: 20}")["客服"] == (20, 40, 20)
    small, large = (
        set(drawn(resolve("own", corpus=str(rows), overrides=[f"data.budget={{客服: {count}}}"]))["ids"])
        for count in (8, 20)
    )
    assert len(small) == 8 and small < large


def test_a_budget_for_rows_that_are_not_there_names_the_nearest(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"customer-care": 9})
    with pytest.raises(DataError) as caught:
        ledger_of(rows, "data.budget={customer-cares: 4}")
    [found] = caught.value.problems
    assert (found.place, found.problem) == ("data.budget.customer-cares", "asked for 4 rows, found 0")
    assert found.hint == "did you mean `customer-care`?"


@pytest.mark.parametrize(
    "name, near", [("maths", "math"), ("Reasoning", "reasoning"), ("generel", "general")]
)
def test_a_slip_of_a_known_name_is_asked_about(tmp_path: Path, name: str, near: str) -> None:
    """Never dropped in silence, and never taken for the other."""
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 3, name: 4})
    with pytest.raises(DataError, match=f"the ability `{name}` \\(4 rows\\) looks like `{near}`") as caught:
        ledger_of(rows)
    assert caught.value.problems[0].place == f"{rows}:4" and caught.value.exit_code == 65
    assert ledger_of(rows, f"abilities.{name}=null")[name] == (4, 4, 4)


def test_the_recipe_may_be_left_out(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 7, None: 5})
    told = CliRunner().invoke(app, ["data", "draw", "--corpus", str(rows), "--model", "demo", "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["ledger"]["客服"]["kept"] == 7
    neither = CliRunner().invoke(app, ["train"])
    assert neither.exit_code == 2 or "neither a recipe nor a corpus" in str(neither.exception)


@pytest.mark.parametrize(
    ("name", "text"), [("x.jsonl", ""), ("x.json", "[]"), ("x.csv", "question,answer\n")]
)
def test_a_file_without_rows_says_so(tmp_path: Path, name: str, text: str) -> None:
    """Trap: "the budget chooses no example: raise data.budget", and a draw of nothing with exit 0."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="the file holds no row"):
        draw(resolve("own", model="demo", corpus=str(path)).recipe)


def test_what_is_kept_out_is_only_named_where_it_is_missed(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 40})
    for budget, named in (("{客服: 40}", True), ("{客服x: 3}", False)):
        with pytest.raises(DataError) as caught:
            draw(
                resolve(
                    "own", corpus=str(rows), overrides=["data.holdout=0.1", f"data.budget={budget}"]
                ).recipe
            )
        assert ("kept out" in caught.value.hint) == named


def test_the_title_and_the_chance_that_a_recipe_declares_are_the_reports(tmp_path: Path) -> None:
    """Trap: a title that nothing prints, a chance that a second scoring forgets."""
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 40, "摘要": 40})
    sets = ("abilities.客服.title=Customer service", "abilities.客服.chance=0.25", "eval.max_new_tokens=2")
    recipe = resolve("own", model="demo", corpus=str(rows), overrides=sets).recipe
    model, template = tiny()
    asked = corpus_task("doit-test", recipe, Request())
    evaluate(model, template, asked, tmp_path / "eval", identity={"base": "tiny"})
    report = score_folder(tmp_path / "eval")
    found = {one.name: one for one in Report.from_json(json.loads(json.dumps(report.to_json()))).sets}
    assert found["客服"].title == "Customer service (chrF)" and found["客服"].chance == 0.25
    assert found["摘要"].title == "摘要 (chrF)" and found["摘要"].chance == 0


def test_free_answers_are_measured_by_likeness_identity_and_loss(tmp_path: Path) -> None:
    """The loss is the answer's own, the question's tokens left out, computed here a second way."""
    rows = write_rows(tmp_path / "rows.jsonl", {"客服": 40})
    sets = ("eval.max_new_tokens=3",)
    recipe = resolve("own", model="demo", corpus=str(rows), overrides=sets).recipe
    model, template = tiny()
    asked = corpus_task("doit-test", recipe, Request())
    evaluate(model, template, asked, tmp_path / "eval", identity={"base": "tiny"})
    [line, *others] = read_lines(tmp_path / "eval").values()
    assert not others
    [item] = asked.items
    question = encode_question(item.question, template)
    whole = encode((*item.question, Message("assistant", item.label)), template).ids
    with torch.no_grad():
        logits = model.adapter.peft(input_ids=torch.tensor([whole])).logits[0].double()
    answer = torch.tensor(whole[len(question) :])
    wanted = torch.nn.functional.cross_entropy(logits[len(question) - 1 : -1], answer)
    measures = score_folder(tmp_path / "eval").sets[0].measures
    assert measures["loss"] == pytest.approx(float(wanted), rel=1e-5)
    assert measures["exact"] == 0 and 0 <= measures["rouge_l"] < 1
    assert line.reply.candidates[0].tokens == len(answer)


def forms_of(folder: Path, answers: Mapping[str, str], *forms: str) -> dict[str, tuple[str, str]]:
    """Form and label of test rows with these answers, by question, where the recipe declares forms."""
    path = folder / "declared.jsonl"
    lines = [
        {
            "messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": say}],
            "ability": "quiz",
            "split": split,
        }
        for split, rows in (("test", answers), ("train", {"x?": "y"}))
        for ask, say in rows.items()
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    sets = [f"abilities.quiz.forms=[{', '.join(forms)}]"] if forms else []
    recipe = resolve("own", model="demo", corpus=(str(path),), overrides=sets).recipe
    items = corpus_task("doit-test", recipe, Request()).items
    return {item.question[-1].content: (item.form, item.label) for item in items}


def test_the_forms_that_a_recipe_declares_are_how_answers_are_read(tmp_path: Path) -> None:
    """Trap: an answer that is a letter by chance is asked as a choice."""
    choice = "Which?\nA. one\nB. two\nC. three\n"
    answers = {choice: "B", "1+1?": "So it is \\boxed{2}", "2+2?": "4", "Say so.": "Certainly, I can."}
    free = {ask: ("open", say) for ask, say in answers.items()}
    assert forms_of(tmp_path, answers) == {**free, choice: ("single_choice", "B")}
    assert forms_of(tmp_path, answers, "open") == free
    some = {"1+1?": answers["1+1?"], "2+2?": "4", "3?": "Add them.\n#### 1,003"}
    results = {"1+1?": ("math", "2"), "2+2?": ("math", "4"), "3?": ("math", "1,003")}
    assert forms_of(tmp_path, some, "math") == results
    assert forms_of(tmp_path, {"__ is red": "The rose"}, "cloze") == {"__ is red": ("cloze", "The rose")}
    with pytest.raises(DataError) as caught:
        forms_of(tmp_path, answers, "single_choice", "tf")
    assert len(caught.value.problems) == 3
    assert "declared.jsonl:2" in str(caught.value) and "abilities.quiz.forms" in caught.value.hint
