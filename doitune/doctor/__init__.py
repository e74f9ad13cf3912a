"""Whether this machine can do what doitune asks of it."""
