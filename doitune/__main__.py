"""`python -m doitune` is `doitune`: the process around a command, from its first signal to its exit code."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

from doitune.errors import BROKEN_PIPE, INTERRUPTED, DoituneError, ModelError, UsageError
from doitune.system import garbage, signals, streams
from doitune.system.paths import bad_name


def main() -> None:
    """Run a command; a user's errors are printed with their cure and end in their exit code."""
    try:
        signals.obey()
        streams.fit()
        garbage.none_at_exit()
        code = _command()
    except (signals.StopAsked, KeyboardInterrupt) as stop:
        again = "run the same command again: it goes on or begins anew"
        _leave(signals.stopped(stop, "stopped; what is finished is kept", again))
    sys.exit(code)


def _command() -> int:
    """Run the command of `sys.argv`; its exit code. Errors: StopAsked, or the KeyboardInterrupt that a
    library made of it."""
    # OpenMP's threads spin while they wait: beside one other busy process 40 steps of the demo took 116 s
    # spinning, 11 s sleeping
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # among unlike cards CUDA counts the fastest first, the driver, which a plan asks, by their slots: one
    # order for both
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # pydantic looks for plugins in the metadata of every package: 10 ms and more, and none has a part here
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    warnings.showwarning = _warn
    try:
        with signals.unchanged():
            from doitune.cli.app import app
            from doitune.system import faults

            faults.arm(os.environ.get(faults.VARIABLE, ""))
            code = app(standalone_mode=False)
        sys.stdout.flush()
    except DoituneError as error:
        _leave(error)
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        _leave(bad_name(error) or _known(error) or _crash(error))
    except Exception as error:
        import typer

        if isinstance(error, typer.Abort):
            raise KeyboardInterrupt from None
        if not hasattr(error, "format_message"):
            _leave(_known(error) or _crash(error))
        from doitune.cli.habits import cured, where_told

        message = str(error.format_message()) or "no such command"
        _leave(cured(error, sys.argv[1:]) or UsageError(message, where_told(error)))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # Rust's, no Exception and in no module
            raise
        first = (str(error).strip() or "it gave no reason").splitlines()[0]
        _leave(
            ModelError(
                f"the code of a library (tokenizers or safetensors) gave up: {first}",
                "a file of the model is damaged, or its tokenizer cannot read a text: copy the model again",
            )
        )
    signals.last_words()
    if code == INTERRUPTED:
        raise KeyboardInterrupt  # typer has turned it into a number
    return code if isinstance(code, int) else 0


def _warn(*about: Any, **more: Any) -> None:
    from doitune.console import screen

    screen.show_warning(*about, **more)


def _known(error: Exception) -> DoituneError | None:
    """A library's error that is nobody's bug, as a user may read it."""
    from doitune.doctor.known_errors import recognised

    return recognised(error)


def _crash(error: Exception) -> NoReturn:
    from doitune.console import screen

    screen.show_crash(error)
    sys.exit(DoituneError.exit_code)


def _leave(error: DoituneError) -> NoReturn:
    signals.last_words()
    from doitune.console import screen
    from doitune.train.team import follows, let_the_leader_speak

    if follows():
        let_the_leader_speak()
        sys.exit(error.exit_code)
    screen.show_error(error, as_json="--json" in sys.argv)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
