"""Ray as the place where a family's pieces are done: each is a task with one card (or its threads of a CPU),
on any machine of the cluster that sees the family's folder and has doitune. Ray places them, and begins one
again whose machine or process was lost; here they only have to go on where they were.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from doitune.errors import DoituneError, FitError
from doitune.growth.family.local import THREADS
from doitune.growth.family.work import Piece
from doitune.growth.family.worker import Answer, attempt
from doitune.growth.folder import read_record
from doitune.system.doing import doing

AGAIN = 5
"""How often Ray begins a task again whose process or machine was lost."""

HANDED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "XDG_CACHE_HOME", "OMP_WAIT_POLICY", "CUDA_DEVICE_ORDER")
"""Of this process's environment, what tasks get too."""

_stay = ExitStack()
"""Of a process that does tasks: the base that it has loaded."""


def do_task(growth: str, piece: Piece, wait_minutes: float, where: str) -> dict[str, Any]:
    """A piece in a process of Ray's; those that it does one after another share the loaded base (on cards Ray
    ends each process with its task). `where`: the folder that paths of recipes start from."""
    from doitune.run import model

    if Path(where).is_dir():
        os.chdir(where)
    if not model.keeps_one_base():
        _stay.enter_context(model.one_base())
    folder = Path(growth)
    return attempt(folder, read_record(folder), piece, wait_minutes).to_json()


class Cluster:
    """The tasks under way."""

    def __init__(self, growth: Path, threads: int, at_once: int | None, wait_minutes: float) -> None:
        """Errors: FitError without Ray, or where the cluster has no room for one task."""
        try:
            import ray
        except ImportError as error:
            problem = "--on ray needs Ray, which is not installed"
            raise FitError(problem, "pip install 'doitune[cluster]'") from error
        self.ray, self.growth, self.wait_minutes = ray, growth.absolute(), wait_minutes
        self.quiet = ExitStack()
        self.quiet.enter_context(redirect_stdout(sys.stderr))  # where Ray speaks of machines that it lost
        doing("joining the cluster")
        environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        ray.init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {**environment, THREADS: str(threads)}},
        )
        have = ray.cluster_resources()
        cards = int(have.get("GPU", 0))
        needs = {"num_gpus": 1} if cards else {"num_cpus": threads}
        fits = cards or int(have.get("CPU", 0)) // threads
        if not fits:
            self.close()
            raise FitError(f"the cluster has no room for a task: {have}", "start its workers: `ray start`")
        self.room = min(at_once or fits, fits)
        self.task = ray.remote(**needs, max_retries=AGAIN)(do_task)
        self.pieces: dict[Any, Piece] = {}

    def begin(self, piece: Piece) -> None:
        """Have a piece done."""
        self.pieces[self.task.remote(str(self.growth), piece, self.wait_minutes, str(Path.cwd()))] = piece

    def answers(self, seconds: float) -> list[Answer]:
        """What has been answered by now, waiting at most so long for one."""
        ready, _ = self.ray.wait(list(self.pieces), num_returns=1, timeout=seconds)
        return [self._answer(one) for one in ready]

    def _answer(self, reference: Any) -> Answer:
        piece = self.pieces.pop(reference)
        try:
            return Answer.from_json(self.ray.get(reference))
        except self.ray.exceptions.RayError as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return replace(Answer(piece), exit_code=DoituneError.exit_code, kind="lost", problem=first)

    def stop(self, number: int) -> None:
        """Ask every task to save and end; Ray knows one way to ask."""
        for reference in self.pieces:
            self.ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster; one that was begun for this family ends."""
        self.ray.shutdown()
        self.quiet.close()
