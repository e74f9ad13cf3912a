"""The demo: a small closed world, a tiny base model that has read about it, and a data set that asks about
it."""
