"""The manual can be typed: every command, field, recipe, link and figure of a card in README and docs/ is
read by the program that it speaks of."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import newcomer
import pytest
import typer
from manual import ROOT, blocks, commands, every_page, in_chinese, inline, pages, sections, shown, tables
from typer.testing import CliRunner

from doitune.cli.app import app
from doitune.growth.family.plan import read_plan
from doitune.recipe.field_help import field_help
from doitune.recipe.resolve import check

EVERY = {shown(page): page for page in every_page()}
MOST_LINES = 350
"""Of README: it is read in one go."""


@cache
def desk() -> Any:
    return typer.main.get_command(app)


def walk(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words mean, and what is left of them: its arguments."""
    command, rest = desk(), list(words)
    while hasattr(command, "commands"):
        if command.name == "grow" and rest[0] not in command.commands:
            rest.insert(0, "run")
        assert rest and rest[0] in command.commands, f"no command: doitune {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("name", EVERY)
def test_every_command_of_a_block_is_understood(name: str) -> None:
    """Trap: an option is renamed and the manual stays."""
    for block in blocks(EVERY[name], "bash"):
        for words in commands(block.text):
            command, rest = walk(words)
            try:
                command.make_context(command.name, rest)
            except Exception as error:
                raise AssertionError(f"{block.place}: doitune {' '.join(words)}: {error}") from error


def test_blocks_hold_commands() -> None:
    found = [words for page in pages() for block in blocks(page, "bash") for words in commands(block.text)]
    assert len(found) > 30 and {"train", "eval", "export", "grow"} <= {words[0] for words in found}


@pytest.mark.parametrize("name", EVERY)
def test_options_of_a_command_in_a_sentence_are_its_own(name: str) -> None:
    """`doitune export RUN --to gguf,ollama [--quant f16]`, with what stands for values."""
    for code in inline(EVERY[name].read_text(encoding="utf-8")):
        words = re.sub(r"[\[\]]", "", code.replace("\\|", "|")).split()
        if (
            words[:1] != ["doitune"]
            or len(words) == 1
            or words[1].startswith("-")
            or not words[1].isascii()
            or words[1].isupper()
        ):
            continue
        command = desk()
        for word in words[1:]:
            if not hasattr(command, "commands"):
                break
            names = word.split("|")
            known = [one for one in names if one in command.commands]
            if command.name == "grow" and not known:
                command = command.commands["run"]
                break
            assert known == names, f"`{code}`: no command {set(names) - set(known)}"
            command = command.commands[known[0]]
        typed = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
        own = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert typed <= {*own, "--help", "-h"}, f"{name}: `{code}`"


def test_what_a_newcomer_types_is_what_readme_has() -> None:
    """Trap: a block is renamed, and its check or its excuse is about nothing."""
    texts = [block.text for block in blocks(ROOT / "README.md", "bash")]
    for words in (*newcomer.LEFT_OUT, *newcomer.LONG, *newcomer.SAYS):
        assert sum(words in text for text in texts) == 1, words
    assert len([one for one in blocks(ROOT / "README.md", "bash") if not newcomer.why_not(one)]) > 4


def without_numbers(dotted: str) -> str:
    """`abilities.NAME.title` as a pattern for any name."""
    return re.escape(dotted).replace("NAME", r"[^.]+")


@pytest.mark.parametrize("name", EVERY)
def test_fields_that_a_sentence_names_are_there(name: str) -> None:
    """Trap: a field is renamed, and what the manual says to set is refused."""
    fields = [one.name for one in field_help()]
    heads = "|".join(sorted({one.partition(".")[0] for one in fields}))
    known = {".".join(one.split(".")[: depth + 1]) for one in fields for depth in range(one.count(".") + 1)}
    text = EVERY[name].read_text(encoding="utf-8")
    code = " ".join((*inline(text), *(block.text for block in blocks(EVERY[name], "bash"))))
    for said in re.findall(rf"(?<![\w./-])(?:{heads})\.[a-z_0-9.]*[a-z_0-9]", code):
        if not said.endswith((".json", ".yaml", ".jsonl", ".py")):
            assert any(re.fullmatch(without_numbers(one), said) for one in known), f"{name}: {said}"


@pytest.mark.parametrize("name", EVERY)
def test_recipes_plans_and_programs_are_read(name: str, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(EVERY[name])):
        path = tmp_path / f"{number}.yaml"
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml" and "designs:" in block.text:
            path.write_text(block.text, encoding="utf-8")
            assert read_plan(str(path)), block.place
        elif block.language == "yaml":
            parent = "" if block.text.startswith("extends") else "extends: own\n"
            path.write_text(parent + block.text, encoding="utf-8")
            assert not check([str(path)]), block.place
        else:
            assert block.language in ("bash", "text"), f"{block.place}: {block.language or 'no language'}"


@pytest.mark.parametrize("name", EVERY)
def test_files_that_a_page_names_are_there(name: str) -> None:
    """Trap: a test is renamed, and the command that the manual gives for a figure finds nothing."""
    text = EVERY[name].read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])((?:tests|doitune)/[\w/]+\.py)", text))
    assert not [one for one in named if not (ROOT / one).is_file()]
    assert named or name.split("/")[-1] != "measured.md"


def anchor(title: str) -> str:
    """How GitHub names a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", EVERY)
def test_links_lead_somewhere(name: str) -> None:
    page = EVERY[name]
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{name}: {target}"
        assert other.is_relative_to(ROOT)
        if heading:
            assert heading in {anchor(one.title) for one in sections(other)}, f"{name}: {target}"


@pytest.mark.parametrize("page", [page for page in pages() if page.name != "README.md"], ids=shown)
def test_a_page_says_what_it_answers(page: Path) -> None:
    """A title, and a line that `doitune help` shows; README's list has it."""
    title, blank, line, after = page.read_text(encoding="utf-8").split("\n")[:4]
    assert re.fullmatch(r"# \S.*", title) and (blank, after) == ("", "") and len(line) < 100, shown(page)
    for readme in (ROOT / "README.md", in_chinese(ROOT / "README.md")):
        folder = "docs" if readme.name == "README.md" else "docs/zh-CN"
        if (ROOT / folder / page.name).exists():
            assert f"[{page.stem}]({folder}/{page.name})" in readme.read_text(encoding="utf-8"), readme


def test_readme_is_read_in_one_go() -> None:
    assert 100 < (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= MOST_LINES


def guide() -> list[tuple[str, ...]]:
    """The rows of README's table of cards."""
    found = [
        table for table in tables((ROOT / "README.md").read_text(encoding="utf-8")) if table[0][0] == "card"
    ]
    assert len(found) == 1
    return [tuple(row) for row in found[0][1:]]


def test_the_guide_has_every_card() -> None:
    assert {row[0] for row in guide()} == {"8gb", "12gb", "16gb", "24gb", "48gb"}


@pytest.mark.parametrize("row", guide(), ids=" ".join)
def test_figures_of_a_card_are_the_plans(row: tuple[str, ...]) -> None:
    """Trap: the plan learns something new, and README sends a person to a model that no longer fits."""
    card, model, setting, high, usable, tokens = row
    typed = [
        "plan",
        "own",
        "--model",
        model,
        "--card",
        card,
        "--json",
        *(["--set", setting] if setting else []),
    ]
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 0, done.output
    plan = json.loads(done.output)
    assert plan["fits"]
    found = (
        f"{plan['high_gib']:.1f}",
        f"{plan['usable_gib']:.1f}",
        f"{plan['max_tokens_per_micro_batch']:,}",
    )
    assert found == (high, usable, tokens)


def test_defaults_of_the_table_of_settings_are_the_fields() -> None:
    rows = next(
        table for table in tables((ROOT / "docs/recipes.md").read_text("utf-8")) if table[0][0] == "field"
    )
    defaults = {one.name: one.default for one in field_help()}
    said = {row[0].strip("`"): row[1] for row in rows[1:]}
    plain = {name: value for name, value in said.items() if re.fullmatch(r"[\w.]+", value)}
    assert len(plain) > 3 and set(said) <= set(defaults)
    assert plain["data.holdout"] == "0.05"  # `_base` sets it; the field's own default is none
    assert {name: defaults[name] for name in plain if name != "data.holdout"} == {
        name: value for name, value in plain.items() if name != "data.holdout"
    }


PICTURES = sorted((ROOT / "docs/pictures").glob("*.*g"))


def test_pictures_are_small_and_fetch_nothing() -> None:
    """Trap: rich's own SVG names a font on another server, and a page of an offline manual asks for it."""
    assert len(PICTURES) > 3
    for path in PICTURES:
        assert path.stat().st_size < 150_000, path.name
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            assert "font-face" not in text and "<script" not in text and "href" not in text, path.name
            addresses = set(re.findall(r"https?://[^\s\"']+", text))
            assert addresses == {"http://www.w3.org/2000/svg"}, addresses


def test_every_picture_is_shown_in_both_languages() -> None:
    for languages in ([*pages()], [in_chinese(page) for page in pages()]):
        text = "".join(page.read_text(encoding="utf-8") for page in languages)
        assert set(re.findall(r"!\[[^\]]+\]\([^)]*pictures/([\w.]+)\)", text)) == {
            one.name for one in PICTURES
        }
