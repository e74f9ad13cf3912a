"""The ten abilities of the DoIT data set, its out-of-domain sets, the forms a question can take, and what
guessing scores.

Source: the paper's Table 1 and the released scorer; the counts of full training rows are facts about the
published data, used in messages only and never as budgets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Form = Literal["open", "single_choice", "multi_choice", "tf", "cloze", "math", "ppl_rank"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class Ability:
    """One ability: `name` is the file stem in the data set and the key in budgets, ledgers and reports."""

    name: str
    title: str
    forms: tuple[Form, ...]


ABILITIES: tuple[Ability, ...] = (
    Ability("biology", "STEM - Biology", ("single_choice",)),
    Ability("history", "Humanity - History", ("single_choice", "tf")),
    Ability("code", "Code Generation", ("ppl_rank",)),
    Ability("creative_writing", "Creative Writing", ("ppl_rank",)),
    Ability("chinese", "Chinese", ("single_choice", "cloze")),
    Ability("understanding", "Dialogue Understanding", ("single_choice",)),
    Ability("role_play", "Role-play Chat", ("ppl_rank",)),
    Ability("reasoning", "Logical Reasoning", ("single_choice",)),
    Ability("math", "COT for Grad-Math", ("math",)),
    Ability("ethics", "Ethics", ("multi_choice",)),
)
OUT_OF_DOMAIN: tuple[Ability, ...] = (
    Ability("ceval_physician", "Physician Qualification", ("single_choice",)),
    Ability("ceval_teacher_qualification", "Teacher Qualification", ("single_choice",)),
    Ability("ceval_urban_and_rural_planner", "Urban & Rural Planner", ("single_choice",)),
)
INSTRUCTIONS = Ability("synthetic", "Synthetic general instructions", ("open",))
GENERAL = Ability("general", "General instructions", FORMS)
"""The ability of a user's own rows that name none."""

BY_NAME: dict[str, Ability] = {
    ability.name: ability for ability in (*ABILITIES, *OUT_OF_DOMAIN, INSTRUCTIONS, GENERAL)
}
NAMES: tuple[str, ...] = tuple(ability.name for ability in ABILITIES)

NEAR = 0.8
"""How alike two names are (difflib's ratio) where one may be a slip of the other: `maths` and `math`,
`reasonning`; not `coding` and `code`."""

_ABILITY_NAME = re.compile(r"\w[\w-]{0,63}")
_PLACES = {name: place for place, name in enumerate(BY_NAME)}


def is_ability_name(name: str) -> bool:
    """Whether an ability may be called so: letters of any script, digits, `_` and `-`, at most 64."""
    return _ABILITY_NAME.fullmatch(name) is not None


def known_near(name: str, more: Iterable[str] = ()) -> str:
    """The known ability (or one of `more`) that `name` looks like a slip of; "" for a known name, and where
    none is near."""
    known = {one.lower(): one for one in (*BY_NAME, *more)}
    if name in known.values():
        return ""
    near = difflib.get_close_matches(name.lower(), known, 1, NEAR)
    return known[near[0]] if near else ""


def place_of(name: str) -> tuple[int, str]:
    """Sorts names in the order of BY_NAME, then names of a user's own."""
    return _PLACES.get(name, len(_PLACES)), name


def title_of(name: str) -> str:
    """The title of an ability; a set that is none of them has its own name."""
    return BY_NAME[name].title if name in BY_NAME else name


def chance(form: Form, n_options: int) -> float:
    """The score in 0..1 of a uniform guess at one question of `form` with `n_options` options.

    multi_choice: one non-empty subset of the options, 1 / (2^n - 1). (The released scorer uses 1/C(4, k),
    which presumes that the number k of right options is known.) cloze, math and open have no guess worth the
    name: 0.
    """
    if form in ("single_choice", "ppl_rank"):
        return 1.0 / n_options
    if form == "tf":
        return 0.5
    if form == "multi_choice":
        return 1.0 / (2**n_options - 1)
    return 0.0
