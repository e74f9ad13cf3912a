"""CMMLU: every prompt is the reference protocol's, character for character; what is left out of a long
one, and why, is the protocol's too."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest
from tiny_benchmarks import make_cmmlu, real
from tiny_evals import tiny, tokenizer

from doitune.data.example import Message
from doitune.errors import DataError
from doitune.evals.evaluate import evaluate
from doitune.evals.evaluation import Evaluation
from doitune.evals.prompts import counting, prepare
from doitune.evals.suites import cmmlu
from doitune.prompt.template import open_template

SIZES = """agronomy 169, anatomy 148, ancient_chinese 164, arts 160, astronomy 165, business_ethics 209, chinese_civil_service_exam 160,
chinese_driving_rule 131, chinese_food_culture 136, chinese_foreign_policy 107, chinese_history 323, chinese_literature 204,
chinese_teacher_qualification 179, clinical_knowledge 237, college_actuarial_science 106, college_education 107,
college_engineering_hydrology 106, college_law 108, college_mathematics 105, college_medical_statistics 106, college_medicine 273,
computer_science 204, computer_security 171, conceptual_physics 147, construction_project_management 139, economics 159, education 163,
electrical_engineering 172, elementary_chinese 252, elementary_commonsense 198, elementary_information_and_technology 238,
elementary_mathematics 230, ethnology 135, food_science 143, genetics 176, global_facts 149, high_school_biology 169,
high_school_chemistry 132, high_school_geography 118, high_school_mathematics 164, high_school_physics 110, high_school_politics 143,
human_sexuality 126, international_law 185, journalism 172, jurisprudence 411, legal_and_moral_basis 214, logical 123,
machine_learning 122, management 210, marketing 180, marxist_theory 189, modern_chinese 116, nutrition 145, philosophy 105,
professional_accounting 175, professional_law 211, professional_medicine 376, professional_psychology 232, public_relations 174,
security_study 135, sociology 226, sports_science 165, traditional_chinese_medicine 185, virology 169, world_history 161, world_religions 160"""

EXAMPLE = """以下是关于农学的单项选择题，请直接给出正确答案的选项。

题目：dev第0题，agronomy
A. 甲0
B. 乙
C. 丙, 丁
D. NA
答案是：A

题目：dev第1题，agronomy
A. 甲1
B. 乙
C. 丙, 丁
D. NA
答案是：B

题目：test第3题，agronomy
A. 甲3
B. 乙
C. 丙, 丁
D. NA
答案是："""


def by_characters(text: str) -> int:
    """A count that is easy to follow."""
    return len(text)


def test_a_prompt_is_the_protocols(tmp_path):
    found = {item.id: item for item in cmmlu.task(make_cmmlu(tmp_path), 2).items}
    item = found["cmmlu/agronomy#3"]
    assert item.question == (Message("user", EXAMPLE),)
    assert (item.label, item.options, item.shots, item.set) == ("D", tuple("ABCD"), 2, "agronomy")
    assert item.fewer(1)[0].content == EXAMPLE.replace(
        EXAMPLE[EXAMPLE.index("题目：dev第1") : EXAMPLE.index("题目：test")], ""
    )
    assert item.to_read.startswith("test第3题") and "dev" not in item.to_read
    bare = cmmlu.task(make_cmmlu(tmp_path), 0).items[3]
    assert bare.question == item.fewer(0) and bare.shots == 0
    assert bare.question[0].content == cmmlu.intro("agronomy") + EXAMPLE[EXAMPLE.index("题目：test") :]


def test_the_reference_drops_all_of_the_longest_examples_and_then_the_first_line(tmp_path):
    make_cmmlu(tmp_path, ("arts",), rows=1)
    rows = [
        ["", "Question", *"ABCD", "Answer"],
        *([n, "长" * size, "1", "2", "3", "4", "A"] for n, size in enumerate((300, 900, 100, 900, 700))),
    ]
    with (tmp_path / "dev" / "arts.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    item = cmmlu.task(tmp_path, 5).items[0]
    question, shots = item.released(by_characters)
    assert shots == 3 and [len(run) for run in re.findall("长+", question[0].content)] == [300, 100, 700], (
        "both of 900, in one go"
    )
    assert item.fewer(3)[0].content != question[0].content, "ours drops from the end, one by one"
    query = item.fewer(0)[0].content.removeprefix(cmmlu.intro("arts"))
    assert item.released(lambda text: 1100) == ((Message("user", query),), 0)
    assert item.released(lambda text: 1) == (item.question, 5)
    edge = 2048 - len(cmmlu.intro("arts")) - len(query)
    lengths = [len(row.text(answered=True)) for row in cmmlu.read_rows(tmp_path / "dev" / "arts.csv")[:1]]
    one = cmmlu.task(tmp_path, 1).items[0]
    for spare, kept in ((1, 1), (0, 0)):  # exactly full is too long already
        assert (
            one.released(lambda text, spare=spare: edge - spare if "答案是：A\n\n" in text else len(text))[1]
            == kept
        )
    assert lengths


def test_counts_are_those_of_the_tokenizers_plain_call():
    fast = tokenizer()
    template = open_template(fast, kind="doit", tokens="reuse", vocabulary_rows=len(fast))
    assert counting(template)("题目：a") == len(fast("题目：a")["input_ids"])


def test_fixed_drops_shots_one_by_one_and_lists_what_never_fits(tmp_path):
    loaded = tiny()
    task = cmmlu.task(make_cmmlu(tmp_path / "data", rows=3), 5)
    sizes = [len(prompt.ids) for prompt in prepare(task.items, loaded[1])]
    shorter = prepare(task.items, loaded[1], max(sizes) - 150)
    assert {prompt.shots for prompt in shorter} <= {3, 4} and all(
        prompt.rows[0].ids == prompt.ids for prompt in shorter
    )
    report = evaluate(*loaded, task, tmp_path / "evals", identity={"base": "tiny"}, limits=None)
    assert (
        report.n == len(task.items) and report.shots == 5 and not any(one.fewer_shots for one in report.sets)
    )
    from doitune.evals.ask import Limits

    with pytest.raises(DataError, match="none of the 6 questions fits"):  # that is no score of 0
        evaluate(
            *loaded, task, tmp_path / "tight", identity={"base": "tiny"}, limits=Limits(context_tokens=60)
        )
    some = evaluate(
        *loaded,
        task,
        tmp_path / "some",
        identity={"base": "tiny"},
        limits=Limits(context_tokens=max(sizes) - 150),
    )
    assert sum(one.fewer_shots for one in some.sets) == sum(prompt.shots < 5 for prompt in shorter) > 0
    from doitune.evals.markdown import report_markdown

    assert "no room for all of their examples" in report_markdown(some)


def test_the_mean_is_over_subjects_and_categories_have_their_own(tmp_path):
    subjects = ("agronomy", "ancient_chinese", "anatomy", "astronomy")
    task = cmmlu.task(make_cmmlu(tmp_path / "data", subjects), 0)
    report = evaluate(*tiny(), task, tmp_path / "evals", identity={"base": "tiny"})
    scores = {one.name: one.score for one in report.sets}
    assert report.mean.sets == 4 and report.mean.score == pytest.approx(sum(scores.values()) / 4)
    groups = report.table().groups
    assert set(groups) == {"STEM", "Social Science", "Other", "China specific"}
    assert groups["STEM"].score == pytest.approx((scores["anatomy"] + scores["astronomy"]) / 2)
    assert groups["China specific"].score == scores["ancient_chinese"] == groups["Social Science"].score
    (entry,) = Evaluation("x", "base", report).entries(("fixed",))
    assert entry["groups"]["STEM"]["n"] == 12 and entry["mean_as_released"] is None
    assert report.table("paper").mean_as_released is None


def test_broken_data_are_named(tmp_path):
    folder = make_cmmlu(tmp_path / "a", ("arts",))
    path = folder / "test" / "arts.csv"
    path.write_text(path.read_text("utf-8").replace(",D\n", ",E\n"), "utf-8")
    with pytest.raises(DataError, match=r"arts.csv:5.*'E'"):
        cmmlu.task(folder)
    with pytest.raises(DataError, match="potions"):
        cmmlu.task(make_cmmlu(tmp_path / "b", ("potions",)))
    with pytest.raises(DataError, match="dev"):
        cmmlu.task(make_cmmlu(tmp_path / "c", ("arts",), dev=2), 3)
    with pytest.raises(DataError, match="no file test"):
        cmmlu.task(tmp_path)


def test_the_names_and_categories():
    assert len(cmmlu.SUBJECTS) == 67 and len({one.title for one in cmmlu.SUBJECTS.values()}) == 67
    members = cmmlu.categories(list(cmmlu.SUBJECTS))
    assert {name: len(found) for name, found in members.items()} == {
        "STEM": 17, "Humanities": 13, "Social Science": 22, "Other": 15, "China specific": 15,
    }  # fmt: skip


def released_by_the_book(folder, subject, place, shots) -> str:
    """The reference protocol written a second time, from its description and with other means, to compare
    every prompt with."""

    def shown(row, answered):
        lines = [
            "题目：" + row["Question"],
            *(f"{letter}. {row[letter]}" for letter in "ABCD"),
            "答案是：" + (row["Answer"] if answered else ""),
        ]
        return "\n".join(lines) + ("\n\n" if answered else "")

    dev, test = (
        list(csv.DictReader((folder / split / f"{subject}.csv").open(encoding="utf-8", newline="")))
        for split in ("dev", "test")
    )
    first = "以下是关于" + cmmlu.SUBJECTS[subject].title + "的单项选择题，请直接给出正确答案的选项。\n\n"
    return first + "".join(shown(row, True) for row in dev[:shots]) + shown(test[place], False)


@pytest.mark.parametrize("shots", [0, 5])
def test_real_prompts_and_counts(shots):
    folder = real("cmmlu")
    task = cmmlu.task(folder, shots)
    assert len(task.items) == 11_582 and len({item.id for item in task.items}) == 11_582
    wanted = dict(re.findall(r"([a-z_]+) (\d+)", SIZES))
    assert Counter(item.set for item in task.items) == {name: int(size) for name, size in wanted.items()}
    assert Counter(item.label for item in task.items) == {"A": 2926, "B": 2883, "C": 2877, "D": 2896}
    assert {item.shots for item in task.items} == {shots} and task.headline == tuple(sorted(wanted))
    places: Counter[str] = Counter()
    for item in task.items:
        place = places[item.set]
        places[item.set] += 1
        if place % 20 == 0:
            text = released_by_the_book(folder, item.set, place, shots)
            assert item.question == (Message("user", text),)
            assert item.released(lambda text: len(text) // 2)[0] == item.question
    clusters = Counter(item.cluster for item in task.items if item.cluster)
    assert clusters and min(clusters.values()) > 1, "duplicates within a subject are one draw"


def test_a_subject_that_is_missing_is_said(tmp_path):
    """Half a subject is a fault of the folder; whole subjects left out are a smaller benchmark, and the
    report says so. Trap: a mean over 66."""
    from doitune.evals.suites.files import missing_sets

    folder = make_cmmlu(tmp_path)
    assert (
        cmmlu.task(folder).sets == ("agronomy", "ancient_chinese")
        and len(missing_sets("cmmlu", cmmlu.task(folder).sets)) == 65
    )
    assert missing_sets("doit-test", ["math"]) == []
    (folder / "test" / "agronomy.csv").unlink()
    with pytest.raises(DataError, match=r"test.agronomy\.csv: no such file"):
        cmmlu.task(folder)
