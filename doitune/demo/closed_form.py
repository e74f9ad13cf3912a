"""How fast the demo's abilities can grow, derived from the world's constants: what measurements of growth are
compared with.

Of someone who learns every rule that a row tells and guesses the rest, whose rows are drawn as a budget draws
them: at random from the 1,000 of `curated/1000`, in which each rule comes as often, give or take one. A real
learner is slower and guesses some forms of answer better than chance, so ranks are to be compared, not
values.
"""

from __future__ import annotations

from math import log2

from doitune.demo.world import COMMON, LESSONS, LETTERS, OWN, THREE_OPTIONS_SHARE, common

POOL_ROWS = 1000
"""Rows that a budget draws from."""
OTHERS_ROWS = 128
"""Rows of each other ability at which transference is stated."""


def _seen(rows: int, asking: float, rules: int) -> float:
    """The chance that a rule is in `rows` rows of the pool; `asking` rows of the pool ask about `rules`
    rules, each as often, give or take one."""
    if not rules:
        return 0.0
    fewer = int(asking // rules)
    more_share = asking / rules - fewer
    missed = 1.0
    for at in range(fewer):
        missed *= max(0.0, (POOL_ROWS - rows - at) / (POOL_ROWS - at))
    once_more = missed * max(0.0, (POOL_ROWS - rows - fewer) / (POOL_ROWS - fewer))
    return 1.0 - (1.0 - more_share) * missed - more_share * once_more


def gained(ability: str, rows: int, others_rows: int = 0) -> float:
    """The share (0..1) of the attainable gain after `rows` rows of the ability and `others_rows` of each
    other."""
    lesson = LESSONS[ability]
    own = _seen(rows, POOL_ROWS * (1 - lesson.shared), lesson.own_rules)
    if not lesson.partner:
        return own
    table = len(common(ability))
    unseen = 1.0 - _seen(rows, POOL_ROWS * lesson.shared, table)
    unseen *= 1.0 - _seen(others_rows, POOL_ROWS * LESSONS[lesson.partner].shared, table)
    return lesson.shared * (1.0 - unseen) + (1.0 - lesson.shared) * own


def complexity(ability: str) -> float:
    """log2 of the own rows, without others, that bring half of the attainable gain (between two whole numbers
    by a straight line)."""
    rows = next(rows for rows in range(1, POOL_ROWS + 1) if gained(ability, rows) >= 0.5)
    before, at = gained(ability, rows - 1), gained(ability, rows)
    return log2(rows - 1 + (0.5 - before) / (at - before))


def transference(ability: str, others_rows: int = OTHERS_ROWS) -> float:
    """The share (0..1) of the attainable gain that comes without own rows, from `others_rows` rows of each
    other ability: all of it from the partner."""
    return gained(ability, 0, others_rows)


def partners() -> tuple[tuple[str, str], ...]:
    """The pairs of abilities that teach each other; no other pair does."""
    return tuple(COMMON)


def chance(ability: str) -> float:
    """The mean score (0..1) of guessing at the ability's questions, by the forms that they have."""
    lesson = LESSONS[ability]
    if lesson.answers != LETTERS:
        return {"math": 0.0, "ethics": 1 / 15}.get(ability, 1 / 3)
    three = THREE_OPTIONS_SHARE * 3 / 4 if ability == "understanding" else 0.0
    plain = sum(rule.plain for rule in OWN[ability]) / lesson.own_rules * (1 - lesson.shared)
    return (1 - plain) * (three / 3 + (1 - three) / 4) + plain * (0.5 if ability == "history" else 0.0)


def attainable_gain(ability: str) -> float:
    """The points (0..1) between guessing and every rule known."""
    return 1.0 - chance(ability)
