"""Proofs on the user's own machine: what doitune promises, tried out where it will run. `crash`: a run
survives being killed anywhere."""
