"""`python -m doitune` is `doitune`."""

from doitune.cli import main

if __name__ == "__main__":
    main()
