"""Things to ask a model, and ways to score what came back. `task, answers, equality, compare, report` need
no model and no torch."""
