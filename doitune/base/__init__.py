"""Base models on disk: found, fetched, assembled, checked."""
