"""Where rows come from: examples, corpora on disk and on a hub, their checks and leaks."""
