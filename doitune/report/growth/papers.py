"""What the paper printed, for reference beside what is measured here. Source: "Dynamics of Instruction
Fine-Tuning for Chinese Large Language Models", arXiv 2310.19651, version 1: Tables 2 and 3, section 4.3.1."""

from __future__ import annotations

Row = tuple[str, tuple[tuple[float, float, float], ...]]
"""What was learnt from, and by column accuracy in % after epochs 5, 10 and 15."""

COLUMNS = ("AGIEval, 0 shots", "AGIEval, 5 shots", "CMMLU, 0 shots", "CMMLU, 5 shots")
MODEL = "Chinese-LLaMA-Plus 7b"

BUDGETS: tuple[Row, ...] = (
    (
        "Baseline (10k)",
        ((31.59, 34.64, 34.76), (28.71, 31.01, 30.27), (35.46, 36.75, 36.34), (34.50, 35.14, 34.29)),
    ),
    (
        "Reconstruct (10k)",
        ((35.82, 35.43, 35.18), (33.66, 32.27, 32.65), (35.77, 36.85, 36.76), (35.12, 35.89, 35.79)),
    ),
    (
        "Maximum (40k)",
        ((36.41, 37.61, 38.85), (33.37, 33.57, 33.35), (37.74, 37.28, 37.53), (37.02, 37.16, 37.13)),
    ),
)
"""Table 2."""

MIXED: tuple[Row, ...] = (
    (
        "Maximum + 0",
        ((36.41, 37.61, 38.85), (33.37, 33.57, 33.35), (37.74, 37.28, 37.53), (37.02, 37.16, 37.13)),
    ),
    (
        "Maximum + 2,560",
        ((37.08, 39.21, 39.88), (34.11, 34.07, 34.00), (37.30, 37.74, 37.74), (36.91, 36.87, 36.46)),
    ),
    (
        "Maximum + 41k",
        ((32.69, 34.43, 34.38), (30.06, 31.65, 31.41), (33.98, 36.20, 35.34), (34.07, 35.06, 35.17)),
    ),
)
"""Table 3: synthetic rows beside the maximum of curated ones."""

GROUPS: tuple[tuple[str, str], ...] = (
    ("responsive to data and size", "Code Generation, STEM - Biology, Humanity - History"),
    ("responsive to data, resistant to size", "Dialogue Understanding, Logical Reasoning"),
    ("resistant to both", "Ethics, Role-play Chat"),
    ("of their own kind", "Chinese, Creative Writing, COT for Grad-Math"),
)
"""Version 1's four groups, judged by eye from smoothed curves."""

UNKNOWN = (
    "The paper's version 3 explains sensitivities by two features of an ability that it calls Complexity and "
    "Transference. Its formulas are not known to us: the two traits on this page are doitune's own, under "
    "the same names, and their values cannot be held against the paper's."
)
