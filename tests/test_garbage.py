"""Python's search for garbage in cycles: not among what is imported nor at the end, and everywhere else."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from doitune.system.garbage import MODELS, importing

ENDING = """
import sys
from doitune.system.garbage import none_at_exit

class Told:
    def __del__(self, write=sys.stdout.write):
        write("searched")

if "spared" in sys.argv:
    none_at_exit()
cycle = [Told()]
cycle.append(cycle)
"""

COUNTING = """
import gc, sys
from pathlib import Path
from doitune.backends.tokenizer import load_tokenizer
from doitune.backends.pick import pick_backend

searched = []
gc.callbacks.append(lambda phase, about: searched.append(about["generation"]))
load_tokenizer(Path(sys.argv[1]))
pick_backend("hf")
assert gc.isenabled() and "torch" in sys.modules and "peft" in sys.modules
print(len(searched), len(sys.modules))
"""


@pytest.fixture
def searching() -> Iterator[None]:
    """The search is on; what a test froze is thawed."""
    assert gc.isenabled()
    yield
    gc.enable()
    gc.unfreeze()


def test_nothing_is_searched_while_something_is_imported(
    searching: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps: a search that stays off where an import fails; freezing at each call, and with it what a long
    process no longer wants."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_new_module.py").write_text("held = [[] for _ in range(1000)]", encoding="utf-8")
    monkeypatch.delitem(sys.modules, MODELS, raising=False)
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == before
    with importing():
        import a_new_module  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled() and gc.get_freeze_count() >= before + 1000
    with pytest.raises(ImportError), importing():
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_who_has_turned_the_search_off_finds_it_off(searching: None) -> None:
    gc.disable()
    with importing(), importing():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_where_a_model_may_be_in_memory_nothing_is_frozen(
    searching: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a base that is let go of and never freed, since another backend was imported while it was there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "another_module.py").write_text("held = [[] for _ in range(1000)]", encoding="utf-8")
    monkeypatch.setitem(sys.modules, MODELS, sys)
    before = gc.get_freeze_count()
    with importing():
        import another_module  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled() and gc.get_freeze_count() == before


@pytest.mark.parametrize(("how", "said"), [("plain", "searched"), ("spared", "")])
def test_a_process_ends_without_a_search(how: str, said: str) -> None:
    """Trap: a prompt that comes late, for memory that ends with the process."""
    ended = subprocess.run([sys.executable, "-c", ENDING, how], capture_output=True, text=True, check=True)
    assert ended.stdout == said


def test_libraries_are_imported_without_a_thousand_searches(tiny_base: Path) -> None:
    """Far more of them otherwise (the count is in the message of a failure)."""
    counted = subprocess.run(
        [sys.executable, "-c", COUNTING, str(tiny_base)], capture_output=True, text=True, check=True
    )
    searched, modules = map(int, counted.stdout.split())
    assert modules > 1000 and searched / 2 < 100, counted.stdout
