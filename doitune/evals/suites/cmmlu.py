"""CMMLU as a task: 67 subjects of Chinese questions with four options, without or with solved examples, from
a folder of its CSV files.

The text of a question is the reference protocol's, character for character, under both protocols; they differ
in the token that is scored and in which examples are left out of a prompt that is too long. Licence of the
data: CC BY-NC-SA 4.0; none is bundled. Source: subjects, their Chinese names and categories are those of the
repository haonan-li/CMMLU (src/categories.py).
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from doitune.data.example import Message
from doitune.errors import DataError
from doitune.evals.task import Count, Item, Released, Task, digest

SUITE = "cmmlu"
LETTERS = ("A", "B", "C", "D")
RELEASED_TOKENS = 2048
"""The longest prompt of the reference protocol."""

FILES = re.compile(r"(?:dev|test)/[a-z_]+\.csv")
LAYOUT = "dev/<subject>.csv and test/<subject>.csv"
COLUMNS = ["", "Question", *LETTERS, "Answer"]

_CURE = f"name the folder that holds dev and test: --data {SUITE}=PATH"


class Subject(NamedTuple):
    """A subject's Chinese name, as the prompt gives it, and its category; `china`: also of the category
    China specific."""

    title: str
    category: str
    china: bool = False


SUBJECTS: Mapping[str, Subject] = MappingProxyType(
    {
        "agronomy": Subject("农学", "Other"),
        "anatomy": Subject("解剖学", "STEM"),
        "ancient_chinese": Subject("古汉语", "Social Science", china=True),
        "arts": Subject("艺术学", "Humanities"),
        "astronomy": Subject("天文学", "STEM"),
        "business_ethics": Subject("商业伦理", "Social Science"),
        "chinese_civil_service_exam": Subject("中国公务员考试", "Social Science", china=True),
        "chinese_driving_rule": Subject("中国驾驶规则", "Other", china=True),
        "chinese_food_culture": Subject("中国饮食文化", "Social Science", china=True),
        "chinese_foreign_policy": Subject("中国外交政策", "Social Science", china=True),
        "chinese_history": Subject("中国历史", "Humanities", china=True),
        "chinese_literature": Subject("中国文学", "Humanities", china=True),
        "chinese_teacher_qualification": Subject("中国教师资格", "Social Science", china=True),
        "clinical_knowledge": Subject("临床知识", "Other"),
        "college_actuarial_science": Subject("大学精算学", "STEM"),
        "college_education": Subject("大学教育学", "Social Science"),
        "college_engineering_hydrology": Subject("大学工程水文学", "STEM"),
        "college_law": Subject("大学法律", "Humanities"),
        "college_mathematics": Subject("大学数学", "STEM"),
        "college_medical_statistics": Subject("大学医学统计", "STEM"),
        "college_medicine": Subject("大学医学", "Other"),
        "computer_science": Subject("计算机科学", "STEM"),
        "computer_security": Subject("计算机安全", "Other"),
        "conceptual_physics": Subject("概念物理学", "STEM"),
        "construction_project_management": Subject("建设工程管理", "Other", china=True),
        "economics": Subject("经济学", "Social Science"),
        "education": Subject("教育学", "Social Science"),
        "electrical_engineering": Subject("电气工程", "STEM"),
        "elementary_chinese": Subject("小学语文", "Social Science", china=True),
        "elementary_commonsense": Subject("小学常识", "Other", china=True),
        "elementary_information_and_technology": Subject("小学信息技术", "Other"),
        "elementary_mathematics": Subject("初等数学", "STEM"),
        "ethnology": Subject("民族学", "Social Science", china=True),
        "food_science": Subject("食品科学", "Other"),
        "genetics": Subject("遗传学", "STEM"),
        "global_facts": Subject("全球事实", "Humanities"),
        "high_school_biology": Subject("高中生物", "STEM"),
        "high_school_chemistry": Subject("高中化学", "STEM"),
        "high_school_geography": Subject("高中地理", "Social Science"),
        "high_school_mathematics": Subject("高中数学", "STEM"),
        "high_school_physics": Subject("高中物理学", "STEM"),
        "high_school_politics": Subject("高中政治", "Social Science", china=True),
        "human_sexuality": Subject("人类性行为", "Other"),
        "international_law": Subject("国际法学", "Humanities"),
        "journalism": Subject("新闻学", "Social Science"),
        "jurisprudence": Subject("法理学", "Humanities"),
        "legal_and_moral_basis": Subject("法律与道德基础", "Other"),
        "logical": Subject("逻辑学", "Humanities"),
        "machine_learning": Subject("机器学习", "STEM"),
        "management": Subject("管理学", "Social Science"),
        "marketing": Subject("市场营销", "Social Science"),
        "marxist_theory": Subject("马克思主义理论", "Humanities"),
        "modern_chinese": Subject("现代汉语", "Social Science", china=True),
        "nutrition": Subject("营养学", "Other"),
        "philosophy": Subject("哲学", "Humanities"),
        "professional_accounting": Subject("专业会计", "Social Science"),
        "professional_law": Subject("专业法学", "Humanities"),
        "professional_medicine": Subject("专业医学", "Other"),
        "professional_psychology": Subject("专业心理学", "Social Science"),
        "public_relations": Subject("公共关系", "Social Science"),
        "security_study": Subject("安全研究", "Social Science"),
        "sociology": Subject("社会学", "Social Science"),
        "sports_science": Subject("体育学", "Other"),
        "traditional_chinese_medicine": Subject("中医中药", "Other", china=True),
        "virology": Subject("病毒学", "STEM"),
        "world_history": Subject("世界历史", "Humanities"),
        "world_religions": Subject("世界宗教", "Humanities"),
    }
)
SETS = tuple(SUBJECTS)
CATEGORIES = ("STEM", "Humanities", "Social Science", "Other", "China specific")


def categories(subjects: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The subjects of each category, in their order; a subject of China specific is in two. Empty
    categories are left out."""
    found = {name: tuple(one for one in subjects if SUBJECTS[one].category == name) for name in CATEGORIES}
    found["China specific"] = tuple(one for one in subjects if SUBJECTS[one].china)
    return {name: members for name, members in found.items() if members}


class Row(NamedTuple):
    """One question: `number` is its own in the file."""

    number: str
    question: str
    options: tuple[str, ...]
    answer: str

    def text(self, answered: bool) -> str:
        """As it stands in a prompt, with its answer as an example or without."""
        options = "".join(
            f"\n{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=True)
        )
        return f"题目：{self.question}{options}\n答案是：" + (f"{self.answer}\n\n" if answered else "")

    @property
    def stem(self) -> str:
        """Question and options for people to read."""
        return "\n".join(
            [
                self.question,
                *(f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=True)),
            ]
        )

    @property
    def content(self) -> str:
        """Hash of question and options, by which duplicates are found."""
        return digest([self.question, *sorted(self.options)])


def intro(subject: str) -> str:
    """The first line of a subject's prompts."""
    return f"以下是关于{SUBJECTS[subject].title}的单项选择题，请直接给出正确答案的选项。\n\n"


def read_rows(path: Path) -> list[Row]:
    """The rows of one CSV file. Errors: DataError naming file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            if header != COLUMNS:
                raise DataError(f"its columns are {header}", f"expected {COLUMNS}", place=f"{path}:1")
            return [_row(cells, f"{path}:{reader.line_num}") for cells in reader if cells]
    except FileNotFoundError:
        raise DataError("no such file", _CURE, place=str(path)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", "fetch the data again", place=str(path)) from error


def _row(cells: Sequence[str], place: str) -> Row:
    if len(cells) != len(COLUMNS) or cells[-1] not in LETTERS:
        raise DataError(
            f"not a question with four options and its answer: {cells[-1:]}",
            "fetch the data again",
            place=place,
        )
    return Row(cells[0], cells[1], tuple(cells[2:6]), cells[6])


def task(folder: Path, shots: int = 0) -> Task:
    """The task over the subjects that `folder` has (`test/<subject>.csv`, `dev/<subject>.csv`), with the
    first `shots` rows of dev.

    Its headline is the mean over the subjects. Errors: DataError for missing or broken files, or fewer rows
    in dev.
    """
    subjects = sorted(path.stem for path in (folder / "test").glob("*.csv"))
    unknown = [name for name in subjects if name not in SUBJECTS]
    if unknown or not subjects:
        problem = (
            f"subjects that CMMLU doesn't have: {', '.join(unknown)}"
            if unknown
            else "no file test/<subject>.csv"
        )
        raise DataError(problem, _CURE, place=str(folder))
    halves = sorted(
        path for path in (folder / "dev").glob("*.csv") if path.stem in SUBJECTS and path.stem not in subjects
    )
    if halves:
        raise DataError(
            f"no such file, though {halves[0]} is there",
            "fetch the data again",
            place=str(folder / "test" / halves[0].name),
        )
    items = tuple(item for subject in subjects for item in _items(folder, subject, shots))
    return Task(SUITE, items, headline=tuple(subjects), shots=shots, groups=categories(subjects))


def _items(folder: Path, subject: str, shots: int) -> list[Item]:
    """The questions of one subject."""
    rows = read_rows(folder / "test" / f"{subject}.csv")
    examples = (
        tuple(row.text(answered=True) for row in read_rows(folder / "dev" / f"{subject}.csv")[:shots])
        if shots
        else ()
    )
    if len(examples) < shots:
        raise DataError(
            f"{len(examples)} examples instead of {shots}",
            "fetch the data again",
            place=str(folder / "dev" / f"{subject}.csv"),
        )
    often = Counter(row.content for row in rows)
    return [
        _item(subject, row, examples, f"{SUITE}:{row.content}" if often[row.content] > 1 else "")
        for row in rows
    ]


def _item(subject: str, row: Row, examples: tuple[str, ...], cluster: str) -> Item:
    query = row.text(answered=False)

    def fewer(count: int) -> tuple[Message, ...]:
        return (Message("user", intro(subject) + "".join(examples[:count]) + query),)

    return Item(
        id=f"{SUITE}/{subject}#{row.number}",
        set=subject,
        form="single_choice",
        way="letters",
        question=fewer(len(examples)),
        label=row.answer,
        options=LETTERS,
        cluster=cluster,
        shots=len(examples),
        fewer=fewer,
        stem=row.stem,
        bare=True,
        released=_released(intro(subject), examples, query),
    )


def _released(first_line: str, examples: tuple[str, ...], query: str) -> Released:
    """The reference's way with long prompts: it leaves out every example that is as long as the longest, and
    again, until the rest fits; a query that is too long by itself loses its first line instead.

    Source: DoIT evaluate/cmmlu/src/mp_utils.py; same counts, the tokens that an encoder adds to each piece
    included.
    """

    def question(count: Count) -> tuple[tuple[Message, ...], int]:
        room = RELEASED_TOKENS - count(first_line) - count(query)
        if room < 0:
            return (Message("user", query),), 0
        kept = [(text, count(text)) for text in examples]
        while kept and sum(length for _, length in kept) >= room:
            longest = max(length for _, length in kept)
            kept = [one for one in kept if one[1] != longest]
        return (Message("user", first_line + "".join(text for text, _ in kept) + query),), len(kept)

    return question
