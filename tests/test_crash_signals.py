"""A signal stops a command where nothing is lost: the right exit code, no traceback, the way on as the
last line, and the same bytes in the end."""

from __future__ import annotations

import importlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import pytest
from forked import Desk, Ended, assert_same
from patience import HANGS, wait_for

from doitune.errors import Stopped
from doitune.run.layout import evaluation_folder
from doitune.selftest.traces import Traces
from doitune.system import signals

CODES = {"INT": 130, "TERM": 143, "HUP": 129, "USR1": 143, "USR2": 143}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("signals 信号"))
    whole = made.do(*made.train("whole"))
    assert whole.code == 0, whole.said
    import doitune.backends.hf  # noqa: F401  # loaded for the children to come

    return made


@pytest.fixture(scope="module")
def wanted(desk: Desk) -> Traces:
    return desk.traces("whole")


def _assert_stopped(desk: Desk, runs: str, ended: Ended, code: int) -> None:
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said and "Exception ignored" not in ended.said, ended.said
    run = desk.run(runs)
    if run is not None:
        assert ended.last_line == f"doitune resume {shlex.quote(str(run.folder))}", ended.said
    else:
        assert "run the same command again" in ended.last_line, ended.said


def _finish(desk: Desk, runs: str, wanted: Traces) -> None:
    again = desk.do(*(desk.resume(runs) if desk.run(runs) else desk.train(runs)))
    assert again.code == 0, again.said
    assert_same(wanted, desk.traces(runs))


SITES = [
    ("step.forward:10:sigterm", 143),  # the second micro-batch of a step: half a gradient is forgotten
    ("ckpt.before_rename:3:sigint", 130),  # while saving
    ("validate.begin:1:sighup", 129),
    ("start.origin:1:sigusr1", 143),  # before the first step
    ("resume.restored:1:sigusr2", 143),
]


def test_faults_in_the_middle_of_a_step_are_there(desk: Desk) -> None:
    """`step.forward:10` and `step.backward:7`: trap: other rows, and a step begins or ends where they are."""
    run = desk.run("whole")
    assert run is not None
    done = set(accumulate(line["micro_batches"] for line in run.log.lines() if line["event"] == "step"))
    assert {7, 10} < done and not {6, 9} & done


@pytest.mark.parametrize(("fault", "code"), SITES)
def test_a_signal_at_a_place(fault: str, code: int, desk: Desk, wanted: Traces) -> None:
    runs = fault.replace(":", "-")
    if fault.startswith("resume."):
        assert desk.do(*desk.train(runs), fault="step.logged:3:sigterm").code == 143
        ended = desk.do(*desk.resume(runs), fault=fault)
    else:
        ended = desk.do(*desk.train(runs), fault=fault)
    _assert_stopped(desk, runs, ended, code)
    _finish(desk, runs, wanted)


def _renamed() -> None:
    """What compiled libraries do (pydantic's, while a model class is built): an error of their own in
    place of what a handler raised."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    except signals.StopAsked as stop:
        raise ValueError("an error of the library") from stop


@pytest.fixture
def obeying() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in signals.STOPPING}
    signals.obey()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_that_a_library_renames_is_still_a_stop(obeying: None) -> None:
    with pytest.raises(signals.StopAsked) as caught, signals.unchanged():
        _renamed()
    assert caught.value.number == signal.SIGTERM
    signals.obey()
    asked = signals.Asked()
    with pytest.raises(signals.StopAsked), signals.deferred(asked), asked.at_once():
        _renamed()
    asked = signals.Asked()
    with (
        pytest.raises(ValueError, match="own mistake"),
        signals.unchanged(),
        signals.deferred(asked),
        asked.at_once(),
    ):
        raise ValueError("own mistake")


def _signals_before(place: str, *names: str) -> Callable[[], None]:
    """For a child: signals to itself whenever it comes to a function of the package."""

    def arm() -> None:
        room, name = place.rsplit(".", 1)
        module = importlib.import_module(room)
        real = getattr(module, name)

        def late(*given: Any, **more: Any) -> Any:
            for one in names:
                os.kill(os.getpid(), getattr(signal, f"SIG{one}"))
            return real(*given, **more)

        setattr(module, name, late)

    return arm


@pytest.mark.parametrize(
    "place",
    ["doitune.__main__._leave", "doitune.system.signals.last_words", "doitune.console.screen.show_error"],
)
@pytest.mark.parametrize("names", [("INT",), ("TERM", "INT")])
def test_a_further_signal_does_not_disturb_the_last_words(
    place: str, names: tuple[str, ...], desk: Desk, wanted: Traces
) -> None:
    """Trap: Ctrl-C pressed twice, the second time between the loop's end and the words about it."""
    runs = f"{place}-{len(names)}"
    ended = desk.do(*desk.train(runs), fault="step.forward:10:sigint", before=_signals_before(place, *names))
    _assert_stopped(desk, runs, ended, 130)
    _finish(desk, runs, wanted)


@pytest.mark.parametrize("place", ["doitune.__main__._leave", "doitune.system.signals.last_words"])
def test_a_first_signal_while_an_error_is_said(place: str, desk: Desk) -> None:
    ended = desk.do("train", "nowhere", before=_signals_before(place, "INT"))
    assert ended.code == 130 and "Traceback" not in ended.said, ended.said
    late = desk.do("train", "nowhere", before=_signals_before("doitune.console.screen.show_error", "INT"))
    assert late.code == 65 and "nowhere" in late.said, late.said


def test_a_signal_after_the_end_changes_nothing(desk: Desk, wanted: Traces) -> None:
    ended = desk.do(*desk.train("ended"), before=_signals_before("doitune.console.training.show_run", "TERM"))
    assert ended.code == 0, ended.said
    assert_same(wanted, desk.traces("ended"))


def test_a_signal_while_the_desk_is_being_loaded() -> None:
    """A process of its own, as here everything is loaded; the signal comes with the first import of typer."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Late:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Late())\n"
        "sys.argv = ['doitune', 'recipes', 'list']\n"
        "from doitune.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS)
    assert (
        ended.returncode == 130
        and "Traceback" not in ended.stderr
        and "run the same command again" in ended.stderr
    ), ended.stderr


def test_a_kill_between_the_last_validation_and_its_tidying(desk: Desk) -> None:
    """Trap: the checkpoint that was best until then stays for good, as the resume has nothing left to
    validate."""
    late = (
        "--set",
        "train.select_after_epoch=1",
    )  # the last validation's checkpoint is the best one, and until then the first one's
    assert desk.do(*desk.train("tidy", *late)).code == 0
    assert desk.do(*desk.train("untidy", *late), fault="validate.end:2:kill").code == -signal.SIGKILL
    tidy, untidy = desk.run("tidy"), desk.run("untidy")
    assert (
        tidy is not None
        and untidy is not None
        and len(untidy.checkpoints.all()) == len(tidy.checkpoints.all()) + 1
    )
    _finish(desk, "untidy", desk.traces("tidy"))


def test_the_last_boundary_is_saved_and_nothing_is_trained_twice(desk: Desk, wanted: Traces) -> None:
    """Mid-accumulation: the checkpoint is of the step before, with a checkpoint interval of an hour."""
    slow = desk.train("boundary", "--set", "train.checkpoint_minutes=60")
    assert desk.do(*slow, fault="step.backward:7:sigint").code == 130
    run = desk.run("boundary")
    assert run is not None
    logged = [line["step"] for line in run.log.lines() if line["event"] == "step"]
    assert [one.step for one in run.checkpoints.all()][-1] == logged[-1] > 1
    again = desk.do(*desk.resume("boundary"))
    assert again.code == 0 and "trained again" not in again.said, again.said
    assert (
        desk.traces("boundary").parts["adapter_model.safetensors"]
        == wanted.parts["adapter_model.safetensors"]
    )


def test_twice_leaves_at_once(desk: Desk, wanted: Traces) -> None:
    """The second one, in the middle of a save, abandons it; the staging folder is gone or goes at the next
    start."""
    ended = desk.do(*desk.train("twice"), fault="ckpt.staged:3:sigint,ckpt.filled:3:sigint")
    _assert_stopped(desk, "twice", ended, 130)
    assert "left at once" in ended.said
    run = desk.run("twice")
    assert run is not None and [one.step for one in run.checkpoints.all()] == [1, 2]
    _finish(desk, "twice", wanted)
    assert not [path.name for path in run.checkpoints.folder.iterdir() if path.name.startswith(".")]


def test_an_ignored_signal_stays_ignored(desk: Desk) -> None:
    """Trap: `nohup doitune train` that dies with its terminal."""
    ended = desk.do(
        *desk.train("nohup"),
        fault="step.forward:4:sighup",
        before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None,
    )
    assert ended.code == 0, ended.said


def test_an_evaluation_stops_and_goes_on(desk: Desk) -> None:
    run = desk.run("whole")
    assert run is not None
    arguments = (
        "eval",
        str(run.folder),
        "--suite",
        "doit-valid",
        "--exact",
        "--runs",
        str(desk.folder / "whole"),
    )
    child = desk.begin(*arguments)
    lines = evaluation_folder(run.folder, "doit-valid-exact", "base") / "outcomes.jsonl"
    wait_for(lines.exists)
    os.kill(child, signal.SIGTERM)
    ended = desk.wait(child)
    assert ended.code == 143, ended.said
    assert "Traceback" not in ended.said and "run the same command again" in ended.last_line
    assert desk.do(*arguments).code == 0


def test_the_exit_codes_are_the_documented_ones() -> None:
    assert {name: Stopped(getattr(signal, f"SIG{name}"), "").exit_code for name in CODES} == CODES


def test_a_third_signal_ends_the_process() -> None:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a background job
        with signals.deferred(signals.Asked()):
            for _ in range(3):
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                except signals.StopAsked:
                    continue
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130


DYING = """
import os, signal, sys
from doitune.system import signals as stopping
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
late = Late()
signal.signal(signal.{name}, signal.default_int_handler)  # it is ignored in a background job
stopping.obey()
try:
    os.kill(os.getpid(), signal.{name})
except BaseException:
    sys.exit({code})
"""


@pytest.mark.parametrize("name", list(CODES))
def test_a_signal_while_python_takes_itself_apart_leaves_the_exit_code(name: str) -> None:
    """Ctrl-C pressed twice, the second time after the last words: Python has put its handlers away by
    then, and died of the signal."""
    left = subprocess.run(
        [sys.executable, "-c", DYING.format(name=f"SIG{name}", code=CODES[name])],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert (left.returncode, left.stderr) == (CODES[name], "")


INSIDE = """
import os, signal, sys
from doitune.system import signals as stopping
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a background job
stopping.obey()
try:
    exec("os.kill(os.getpid(), signal.SIGINT)\\nfor _ in range(1000): pass")
except BaseException:
    sys.exit(130)
"""


def test_an_interrupt_inside_of_an_exec_leaves_the_exit_code() -> None:
    """Libraries exec while they are imported (dataclasses do). Python remembers a KeyboardInterrupt that
    passed through one, and dies of SIGINT."""
    left = subprocess.run(
        [sys.executable, "-c", INSIDE], capture_output=True, text=True, timeout=HANGS, check=False
    )
    assert (left.returncode, left.stderr) == (130, "")


def test_an_echo_is_no_second_signal() -> None:
    """torchrun passes a terminal's Ctrl-C on: each process hears it twice."""
    asked = signals.Asked(echo_seconds=5.0)
    asked.note(signal.SIGINT)
    asked.note(signal.SIGINT)
    assert asked.numbers == [signal.SIGINT] and not asked.in_haste
    with pytest.raises(signals.StopAsked):
        asked.note(signal.SIGTERM)


@pytest.mark.slow
def test_sixty_signals_at_random_times(desk: Desk, wanted: Traces) -> None:
    """From the first moment of the process to its last: exact exit codes, and the same bytes after a
    resume."""
    dice = random.Random(0)
    began = time.monotonic()
    assert desk.do(*desk.train("timed")).code == 0
    whole = time.monotonic() - began
    names = [*CODES, "INT twice"]
    seen: dict[int, int] = {}
    stopped: list[str] = []
    for number in range(200):
        name, runs = names[number % len(names)], f"random-{number}"
        began = time.monotonic()
        child = desk.begin(*desk.train(runs))
        time.sleep(dice.uniform(0.05, whole))
        for kind in ["INT", "INT"] if name == "INT twice" else [name]:
            try:
                os.kill(child, getattr(signal, f"SIG{kind}"))
            except ProcessLookupError:
                break
            time.sleep(0.01)
        ended = desk.wait(child)
        if ended.code == 0:
            run = desk.run(runs)
            assert run is not None and run.done() is not None, "0 only for a run that is whole"
            assert_same(wanted, desk.traces(runs))
            whole = min(whole, time.monotonic() - began)  # on a machine that was busier when it was measured
        else:
            assert ended.seconds < 5, "a micro-batch and a save"
            _assert_stopped(desk, runs, ended, CODES.get(name, 130))
            stopped.append(runs)
        seen[ended.code] = seen.get(ended.code, 0) + 1
        if sum(seen.values()) - seen.get(0, 0) == 60:
            break  # those that came too late for a run do not count
    assert set(CODES.values()) <= set(seen) and sum(seen.values()) - seen.get(0, 0) == 60, seen
    # no signal comes into what the resumes import
    for room in ("cli.training", "train.session", "evals.suites.doit"):
        importlib.import_module(f"doitune.{room}")
    for runs in stopped:
        _finish(desk, runs, wanted)
