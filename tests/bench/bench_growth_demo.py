"""What the demo's own runs say of its ten abilities, against what they are built to be.
    python tests/bench/bench_growth_demo.py [--seeds 0 1 2] [--total 1280] [--runs DIR] [--confirm-seeds 3]

Each seed draws other rows and other adapters: a family of 34 runs (`doitune grow demo`, about half an hour on two
cores), kept in --runs: what is there is not run again. Prints, of the scores on valid, the rank correlation of
Complexity and of Transference with `doitune.demo.closed_form` and how surely single-source runs tell partners from
others (AUC); then, with a --total, the advice of each family against equal shares by `doitune grow confirm`, which
asks test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import yaml
from scipy.stats import mannwhitneyu, spearmanr

from doitune.demo import closed_form
from doitune.growth.fit.conclude import Conclusions, conclude
from doitune.growth.folder import read_growth
from doitune.recipe.files import recipes_folder


def doitune(*words: str) -> str:
    """One command's stdout; its stderr is shown."""
    return subprocess.run(
        [sys.executable, "-m", "doitune", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def grown(seed: int, runs: Path) -> Path:
    """The family of one seed, made as far as it is not there."""
    plan = yaml.safe_load((recipes_folder() / "plans" / "demo.yaml").read_text(encoding="utf-8"))
    path = runs / f"demo-seed-{seed}.yaml"
    path.write_text(yaml.safe_dump({**plan, "seeds": [seed]}), encoding="utf-8")
    doitune("grow", str(path), "--runs", str(runs), "--json")
    return runs / path.stem


def correlations(found: Conclusions) -> tuple[float, float]:
    """Spearman's, of Complexity and of Transference; an ability without one counts as a failure to measure."""
    complexity = {one.name: one.complexity.value for one in found.traits if one.complexity}
    transference = {one.name: one.transference.value for one in found.traits if one.transference}
    assert len(complexity) == len(transference) == 10, (complexity, transference)
    return tuple(  # type: ignore[return-value]
        float(spearmanr([measured[name] for name in measured], [built(name) for name in measured]).statistic)
        for measured, built in (
            (complexity, closed_form.complexity),
            (transference, closed_form.transference),
        )
    )


def partners_found(found: Conclusions) -> float:
    """How often a lesson of a partner lies above one of another ability."""
    pairs = {frozenset(pair) for pair in closed_form.partners()}
    [measured] = found.partners
    shares: dict[bool, list[float]] = {True: [], False: []}
    for one in measured.lessons:
        shares[frozenset((one.source, one.learner)) in pairs].append(one.share.value)
    assert len(shares[True]) == 2 * len(pairs) and shares[False]
    return float(mannwhitneyu(shares[True], shares[False]).statistic) / len(shares[True]) / len(shares[False])


def told(family: Path) -> tuple[float, float, float]:
    """Prints one family's traits beside the closed forms; both correlations and the AUC."""
    found = conclude(read_growth(family), "valid")
    for one in found.traits:
        complexity, transference = one.complexity, one.transference
        assert complexity and transference
        print(
            f"  {one.name:18} complexity {complexity.value:5.1f} [{complexity.low:5.1f}, {complexity.high:5.1f}] "
            f"built {closed_form.complexity(one.name):5.1f}   transference {transference.value:4.2f} "
            f"[{transference.low:4.2f}, {transference.high:4.2f}] built {closed_form.transference(one.name):4.2f}"
        )
    of_complexity, of_transference = correlations(found)
    surely = partners_found(found)
    print(
        f"{family.name}: rank correlation of complexity {of_complexity:.2f}, of transference "
        f"{of_transference:.2f}; partners against others, AUC {surely:.2f}",
        flush=True,
    )
    return of_complexity, of_transference, surely


def main() -> None:
    """Make what is not there and print plain figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--total", type=int, default=1280, help="rows of the advice; 0: no advice")
    parser.add_argument("--runs", type=Path, default=Path("runs-bench-growth"))
    parser.add_argument("--confirm-seeds", type=int, default=3)
    asked = parser.parse_args()
    asked.runs.mkdir(parents=True, exist_ok=True)
    families = [grown(seed, asked.runs) for seed in asked.seeds]
    rows = [told(family) for family in families]
    for what, values in zip(("complexity", "transference", "AUC"), zip(*rows, strict=True), strict=True):
        print(f"{what}: median {statistics.median(values):.2f}, least {min(values):.2f}")
    for family in families if asked.total else []:
        advice = asked.runs / f"{family.name}-{asked.total}.yaml"
        where = ("--runs", str(asked.runs))
        words = ("--total", str(asked.total), "--out", str(advice))
        if not advice.exists():
            print(doitune("advise", family.name, *words, *where))
        seeds = ("--seeds", str(asked.confirm_seeds))
        verdict = json.loads(doitune("grow", "confirm", family.name, str(advice), *seeds, *where, "--json"))
        print(f"{family.name}, {asked.total} rows, advised less equal shares: {json.dumps(verdict)[:2000]}")


if __name__ == "__main__":
    main()
