"""What a run's own records say, on the page: curves, the ledger, the recipe, and where the run comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doitune.ability import title_of
from doitune.errors import RecipeError
from doitune.recipe.nodes import Fields, Items, Node, Scalar
from doitune.recipe.yaml_text import read_bytes
from doitune.report.drawing import both_widths
from doitune.report.html import Html, cut, table, tag
from doitune.report.plots import curves
from doitune.report.read import Point, RunView
from doitune.run.layout import RECIPE


def training(one: RunView) -> list[Html]:
    """Losses and scores over steps, and what was learnt from."""
    return [*_curves(one), *_ledger(one)]


def _curves(one: RunView) -> list[Html]:
    found = one.curves
    if not found.loss and not found.validation:
        return []
    loss = "Blue: training loss in nats a trained token, faint each step, strong its running mean."
    caption = tag("figcaption", f"{loss} Amber: validation loss. Across: steps.")
    plot = both_widths(lambda width: curves(found.loss, found.validation, width=width))
    parts = [tag("h2", "Training"), tag("figure", plot, caption)]
    if found.score:
        points = [Point(point.step, 100 * point.value) for point in found.score]
        plot = both_widths(lambda width: curves((), points, height=160, width=width))
        parts.append(tag("figure", plot, tag("figcaption", "Validation score, %, over steps.")))
    if len(found.abilities) > 1:
        plots = [
            curves((), losses, height=150, width=280, title=title_of(name))
            for name, losses in found.abilities.items()
            if losses
        ]
        parts += [tag("h3", "Validation loss by ability"), tag("div", *plots, class_="small-plots")]
    return parts


def _ledger(one: RunView) -> list[Html]:
    if not one.ledger.lines:
        return []
    columns, lines = one.ledger.table()
    rows = [[name, *(f"{count:,}" for count in counts)] for name, *counts in lines]
    return [tag("h2", "What it learnt from"), table(columns, rows)]


def recipe(one: RunView) -> list[Html]:
    """The resolved recipe, a section a fold; text that is no recipe as it stands."""
    try:
        tree = read_bytes(one.recipe.encode("utf-8", "replace"), RECIPE)
    except RecipeError:
        return [tag("h2", "Recipe"), tag("pre", cut(one.recipe))]
    sections: dict[str, Fields] = {
        key: node for key, node in tree.entries.items() if isinstance(node, Fields)
    }
    plain = {key: _value(node) for key, node in tree.entries.items() if key not in sections}
    folds = [tag("details", tag("summary", key), _pairs(_flat(node))) for key, node in sections.items()]
    return [tag("h2", "Recipe"), _pairs(plain), *folds]


def _flat(tree: Fields, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, node in tree.entries.items():
        name = f"{prefix}{key}"
        found.update(_flat(node, f"{name}.") if isinstance(node, Fields) else {name: _value(node)})
    return found


def _value(node: Node) -> str:
    if isinstance(node, Items):
        return ", ".join(_value(item) for item in node.items)
    return node.text if isinstance(node, Scalar) else ""


def provenance(one: RunView) -> list[Html]:
    """Versions, machine, command, data, and the digests of every file that was read."""
    origin, base, data = one.origin, _part(one.origin, "base"), _part(one.origin, "data")
    command = origin.get("command")
    pairs: dict[str, object] = {
        "base": f"{base_of(one)} {base.get('revision', '')}".strip(),
        "versions": ", ".join(f"{name} {version}" for name, version in _part(origin, "versions").items()),
        "machine": f"{origin.get('platform', '')}; {origin.get('backend', '')} on {origin.get('device', '')}",
        "command": " ".join(map(str, command)) if isinstance(command, list) else "",
        "data": _corpora(data.get("corpus", "")),
        "rows that leak into judged sets": data.get("leaks", ""),
        "encoder": _part(origin, "encoder").get("fingerprint", ""),
    }
    files = {**_part(base, "files"), **_part(data, "files")}
    summary = tag("summary", f"sha256 of {len(files)} files")
    digests = tag("details", summary, table(["file", "sha256"], files.items(), left=2))
    return [tag("h2", "Where it comes from"), _pairs(pairs), digests]


def _corpora(recorded: object) -> str:
    """One corpus or several, as origin.json has them."""
    several = recorded if isinstance(recorded, list) else [recorded]
    return ", ".join(str(one.get("from", "")) if isinstance(one, dict) else str(one) for one in several)


def base_of(one: RunView) -> str:
    """The name of the base that a run was trained on; empty where its records do not say."""
    return str(_part(one.origin, "base").get("name", ""))


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping of a record; empty where a stranger's run has something else there."""
    value = document.get(key)
    return value if isinstance(value, Mapping) else {}


def _pairs(pairs: Mapping[str, object]) -> Html:
    lines = (piece for name, value in pairs.items() for piece in (tag("dt", name), tag("dd", value)))
    return tag("dl", *lines)
