"""Laws of resolving: what wins, where each value came from, that a frozen recipe is the recipe, and the
paper's settings."""

import sys

import pytest

from doitune.ability import NAMES
from doitune.cli import options
from doitune.errors import DoituneError, RecipeError, UsageError
from doitune.recipe import files
from doitune.recipe.budget import account
from doitune.recipe.files import copy, find_model, list_models, list_recipes, recipes_folder
from doitune.recipe.nodes import Fields
from doitune.recipe.resolve import check, diff, freeze, resolve
from doitune.recipe.tree import as_tree, flatten
from doitune.recipe.yaml_text import read_file

RECIPES = [card.name for card in list_recipes()]
MODELS = [card.name for card in list_models()]
PAPER = (
    [f"curated-{n}" for n in (10, 40, 160, 640, 2560, 10000)]
    + [f"synthetic-{n}" for n in (10, 40, 160, 640, 2560, 10000, 40960)]
    + ["baseline", "reconstruct", "maximum", "mix-0", "mix-2560", "mix-40960"]
)
FULL = dict(zip(NAMES, (1042, 1893, 4968, 1000, 1450, 4885, 1000, 12751, 11501, 1000), strict=True)) | {
    "synthetic": 40960
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a recipe file into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write_(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return f"./{name}"

    return write_


def refused(name: str, **options: object) -> str:
    with pytest.raises(DoituneError) as caught:
        resolve(name, **options)
    return caught.value.problem


# ---- the built-in recipes


def test_the_papers_nineteen_settings_the_demo_and_ones_own():
    assert sorted(RECIPES) == sorted([*PAPER, "demo", "own"]) and len(PAPER) == 19
    assert MODELS == [
        "7b",
        "13b",
        "33b",
        "baichuan2-7b",
        "baichuan2-13b",
        "demo",
        "gemma-3-4b",
        "gemma-3-4b-instruct",
        "gemma-3-12b",
        "gemma-3-12b-instruct",
        "llama-3.1-8b",
        "llama-3.1-8b-instruct",
        "mistral-7b-v0.3",
        "mistral-7b-v0.3-instruct",
        "phi-4",
        "qwen1.5-7b",
        "qwen1.5-14b",
        "qwen1.5-32b",
        "qwen3-0.6b",
        "qwen3-0.6b-instruct",
        "qwen3-1.7b",
        "qwen3-1.7b-instruct",
        "qwen3-4b",
        "qwen3-4b-instruct",
        "qwen3-8b",
        "qwen3-8b-instruct",
        "qwen3-14b",
        "qwen3-14b-instruct",
        "qwen3-32b",
    ]
    assert all(card.summary for card in (*list_recipes(), *list_models()))
    assert check(RECIPES) == ()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_sets_only_what_belongs_to_a_base(name):
    """A model that brought a budget or an evaluation would change what a recipe learns."""
    tree = read_file(recipes_folder() / "models" / f"{name}.yaml", name)
    assert {"model"} <= set(tree.entries) <= {"summary", "model", "prompt", "lora", "train"}


@pytest.mark.parametrize("model", [None, *MODELS])
def test_frozen_recipes_read_back_equal(model, write):
    assert len(RECIPES) == 21 and len(MODELS) == 29
    for name in RECIPES:
        resolved = resolve(name, model=model)
        again = resolve(write("recipe.yaml", freeze(resolved)))
        assert again.recipe == resolved.recipe
        assert as_tree(again.recipe) == as_tree(resolved.recipe)
        left = {origin.rpartition(":")[0] for field, origin in again.origins.items() if origin != "default"}
        assert left == {"./recipe.yaml"}


def test_a_frozen_recipe_stands_against_any_default(write):
    resolved = resolve(
        "curated-40",
        model="33b",
        corpus="数据 夹",
        overrides=["lora.rank=4", "model.note=a: b # c", "data.budget.math=7"],
    )
    again = resolve(write("数据 夹/配方.yaml", freeze(resolved)))
    assert (
        again.recipe == resolved.recipe
        and again.recipe.data.corpus == "数据 夹"
        and again.recipe.model.note == "a: b # c"
    )


@pytest.mark.parametrize(("name", "rows", "total"), [
    ("baseline", {}, 10000), ("reconstruct", {}, 10001), ("reconstruct", {"biology": 1041}, 10000), ("maximum", {}, 39618),
    ("mix-0", {}, 39618), ("mix-2560", {}, 42178), ("mix-40960", {}, 80578),
    *[(f"curated-{n}", {}, n) for n in (10, 40, 160, 640, 2560, 10000)], *[(f"synthetic-{n}", {}, n) for n in (10, 2560, 40960)],
])  # fmt: skip
def test_budgets_give_the_papers_totals(name, rows, total):
    data = resolve(name).recipe.data
    found = (
        FULL | rows if data.source == "curated/full" else dict.fromkeys(NAMES, 1000) | {"synthetic": 40960}
    )
    ledger = account(data.budget.to_budget(), found)
    assert ledger.total().kept == total
    if name == "reconstruct":
        assert ledger.lines["chinese"].kept == 1306
        equal = ("code", "history", "math", "reasoning", "understanding")
        assert {ledger.lines[ability].kept for ability in equal} == {1305}


def test_aliases_are_the_recipes_that_they_rename():
    aliases = {card.name: card.alias_of for card in list_recipes() if card.alias_of}
    assert aliases == {"baseline": "curated-10000", "mix-0": "maximum"}
    for name, other in aliases.items():
        assert {one.field for one in diff(resolve(name).recipe, resolve(other).recipe)} == {
            "summary",
            "alias_of",
        }


def test_paper_settings_train_as_the_paper_says():
    epochs = {10: 25, 40: 20, 160: 18}
    for name in PAPER:
        recipe = resolve(name).recipe
        number = name.rpartition("-")[2]
        wanted = epochs.get(int(number), 15) if number.isdigit() and not name.startswith("mix") else 15
        train = recipe.train
        assert train.epochs == wanted and train.examples_per_step == 64 and train.max_tokens == 2048
        assert (train.beta1, train.beta2, train.weight_decay, train.clip_norm, train.select_after_epoch) == (
            0.9,
            0.95,
            0.1,
            1.0,
            5,
        )
        assert (train.learning_rate, train.end_rate, train.warmup_steps, recipe.lora.rank) == (
            2e-4,
            2e-5,
            0,
            16,
        )


def test_no_line_of_a_recipe_repeats_what_it_inherits(write):
    """One fact, one place: leaving out any line of a built-in recipe changes it."""
    files = [recipes_folder() / f"{name}.yaml" for name in [*RECIPES, "_base"]]
    assert len(files) == 22
    for path in files:
        tree = read_file(path, path.name)
        for field in _leaves(tree):
            if field.split(".")[0] in ("extends", "summary", "alias_of") or field in (
                "model.name",
                "data.corpus",
            ):
                continue
            child = "reconstruct" if path.stem == "_base" else path.stem
            without = resolve(child, overrides=[f"{field}=null"]) if path.stem == "_base" else None
            try:
                rest = without or resolve(write("x.yaml", _without(path.read_text(encoding="utf-8"), field)))
            except RecipeError:
                continue  # without it the recipe says too little
            assert (
                flatten(as_tree(rest.recipe)).get(field) != flatten(as_tree(resolve(child).recipe))[field]
            ), (path.name, field)


def _leaves(tree: Fields, prefix: str = "") -> list[str]:
    found = []
    for key, node in tree.entries.items():
        found += _leaves(node, f"{prefix}{key}.") if isinstance(node, Fields) else [prefix + key]
    return found


def _without(text: str, field: str) -> str:
    key = field.rpartition(".")[2]
    lines = text.splitlines(keepends=True)
    assert sum(line.strip().startswith(f"{key}:") for line in lines) == 1
    return "".join(line for line in lines if not line.strip().startswith(f"{key}:"))


@pytest.mark.parametrize("model", MODELS)
def test_model_files_say_what_their_base_needs(model):
    source = find_model(model)
    said = {
        name
        for name in _leaves(read_file(source.path, source.shown))
        if not name.startswith("model.architecture")
    }
    needed = "summary model.name model.family model.note prompt.template lora.targets train.learning_rate"
    recipe = resolve("reconstruct", model=model).recipe
    roles = {recipe.prompt.user_token, recipe.prompt.assistant_token, recipe.prompt.end_token, ""}
    own = recipe.prompt.template == "model"  # its own turns are of its own tokens
    named = () if own else ("prompt.user_token", "prompt.assistant_token", "prompt.end_token")
    assert said == {*needed.split(), *named} and len(roles) == (1 if own else 4)
    rates = {"33b": 1e-4, "qwen1.5-32b": 1e-4, "qwen3-32b": 1e-4, "demo": 3e-3}
    assert recipe.train.learning_rate == rates.get(model, 2e-4)


# ---- what wins, and where it came from


def test_origins(tmp_path):
    origins = resolve("reconstruct", model="13b", corpus="demo", overrides=["lora.rank=32"]).origins
    assert origins["lora.alpha"] == "default" and origins["train.end_rate"] == "default"
    assert origins["lora.rank"] == "--set lora.rank=32" and origins["data.corpus"] == "--corpus"
    for field, where in (("train.epochs", "_base"), ("data.budget.ethics", "reconstruct")):
        place = origins[field]
        assert place.startswith(f"recipes/{where}.yaml:") and _line(place).strip().startswith(
            field.rpartition(".")[2]
        )
    name = origins["model.name"]
    assert name.startswith("--model 13b (recipes/models/13b.yaml:") and _line(
        name[len("--model 13b (") : -1]
    ).strip().startswith("name:")
    assert set(origins) == set(flatten(as_tree(resolve("reconstruct").recipe)))
    assert (
        resolve("reconstruct")
        .origins["model.name"]
        .startswith("recipes/models/7b.yaml:4 (model 7b of recipes/_base.yaml:")
    )


def _line(place: str) -> str:
    file, _, number = place.rpartition(":")
    return (recipes_folder().parent / file).read_text(encoding="utf-8").splitlines()[int(number) - 1]


def test_last_wins(write):
    write(
        "parent.yaml",
        "extends: _base\nsummary: p\nalias_of: demo\ntrain: {learning_rate: 1e-3, epochs: 4, seed: 4}\n",
    )
    name = write(
        "child.yaml",
        "extends: parent\ndata: {budget: {share_equally: 100, math: 7}}\ntrain: {epochs: 5, seed: 5}\n",
    )
    resolved = resolve(name, overrides=["train.seed=6", "train.seed=7"])
    train = resolved.recipe.train
    assert (train.weight_decay, train.learning_rate, train.epochs, train.seed) == (0.1, 1e-3, 5, 7)
    assert (
        resolved.origins["train.learning_rate"] == "parent.yaml:4"
        and resolved.origins["train.epochs"] == "./child.yaml:3"
    )
    assert (
        resolve(name, model="33b").recipe.train.learning_rate == 1e-4
    )  # the model's file wins over the recipe
    assert (
        resolve(name, model="33b", overrides=["train.learning_rate=3e-4"]).recipe.train.learning_rate == 3e-4
    )
    assert resolved.recipe.summary == "" and resolved.recipe.alias_of is None  # nobody inherits these


def test_a_section_written_null_takes_its_defaults_and_an_empty_one_says_nothing(write):
    """Trap: `--set data.budget=null` left the parent's budget, without a word."""
    assert resolve("reconstruct").recipe.data.budget.abilities
    found = resolve("reconstruct", overrides=["data.budget=null"])
    assert not found.recipe.data.budget.abilities
    found = resolve("curated-160", overrides=["data.budget=null"])
    assert found.recipe.data.budget.share_equally is None
    assert found.origins["data.budget.share_equally"] == "default"
    name = write("x.yaml", "extends: reconstruct\ndata:\n  budget:\n")
    assert resolve(name).recipe.data.budget == resolve("reconstruct").recipe.data.budget


def test_budgets_merge_and_null_removes(write):
    name = write("x.yaml", "extends: reconstruct\ndata:\n  budget:\n    ethics: null\n    math: 5\n")
    resolved = resolve(name)
    assert list(resolved.recipe.data.budget.abilities) == ["creative_writing", "chinese", "role_play", "math"]
    assert (
        "data.budget.ethics" not in resolved.origins and resolved.origins["data.budget.math"] == "./x.yaml:5"
    )
    back = resolve(name, overrides=["data.source=", "train.epochs=null"])
    assert (
        back.recipe.data.source == "curated/1000"
        and back.origins["data.source"] == back.origins["train.epochs"] == "default"
    )


def test_a_named_model_brings_its_file_below_the_recipe_that_names_it(write):
    name = write("x.yaml", "extends: demo\nmodel: {name: 33b, note: mine}\ntrain: {learning_rate: 5e-4}\n")
    recipe = resolve(name).recipe
    assert (recipe.model.name, recipe.model.note, recipe.train.learning_rate) == (
        "bases/chinese-llama-plus-33b",
        "mine",
        5e-4,
    )
    named = resolve("demo", overrides=["model.name=33b"])
    assert named.recipe == resolve("demo", model="33b").recipe
    assert named.origins["model.family"].startswith("--set model.name=33b (recipes/models/33b.yaml:")


def test_no_fact_of_one_base_is_told_of_another(write):
    """Another base drops the commit, role tokens, memory and rate of the one before."""
    name = write(
        "x.yaml",
        f"extends: demo\nmodel: {{name: a/b, revision: {'0' * 40}, architecture: {{hidden: 8, intermediate: 8, layers: 1, heads: 1, vocabulary: 9}}}}\nprompt: {{user_token: <u>, tokens: new}}\n",
    )
    for base in ("someone/some-model", "."):
        recipe = resolve(name, model=base).recipe
        assert (
            recipe.model.name == base
            and recipe.model.revision == "" == recipe.prompt.user_token
            and recipe.prompt.tokens == "new"
        )
        assert recipe.model.architecture.hidden is None and recipe.model.family == ""
        assert (
            resolve("demo", model=base).recipe.train.learning_rate
            == 2e-4
            != resolve("demo").recipe.train.learning_rate
        )


def test_overrides_are_read_strictly():
    recipe = resolve(
        "demo",
        overrides=[
            "lora.targets=[q_proj, k_proj]",
            "prompt.user_token=<|a|>",
            "train.learning_rate=1e-4",
            "summary=a=b",
        ],
    ).recipe
    assert recipe.lora.targets == ("q_proj", "k_proj") and recipe.prompt.user_token == "<|a|>"
    assert recipe.train.learning_rate == 1e-4 and recipe.summary == "a=b"
    assert resolve("demo", overrides=["data.budget={math: 5}"]).recipe.data.budget.abilities == {"math": 5}
    cases = {
        "lora.rnk=3": "--set lora.rnk=3: no field `lora.rnk`; did you mean `rank`?",
        "lora.rank=x": "--set lora.rank=x: `lora.rank` is `x`",
        "lora=3": "it is a section",
        "lora.rank.x=3": "`lora.rank` is a mapping",
        "data.budget={a: &b 1}": "anchor",
        "summary=!!python/name:x": "",
        ".".join("a" * 50) + "=1": "no field",
    }
    for text, message in cases.items():
        if message:
            assert message in refused("demo", overrides=[text])
    assert (
        resolve("demo", overrides=["summary=!!python/name:x"]).recipe.summary == "!!python/name:x"
    )  # a text, and nothing more
    for text in ("lora.rank", "=3", "lora..rank=3", "extends=demo"):
        with pytest.raises(UsageError):
            resolve("demo", overrides=[text])


# ---- finding


def test_unknown_names_tell_the_nearest():
    assert "did you mean `reconstruct`?" in refused("recontruct")
    assert "did you mean `curated-160`" in refused("curated160")
    assert refused("models/7b").startswith("models/7b: there is no such file")
    assert "no recipe `7b`" in refused("7b")
    assert "no model `31b`; did you mean" in refused("demo", model="31b")
    assert "no recipe" in refused("x" * 5000) and "no such file" in refused("x/" * 3000 + "y") + refused(
        "a.yaml"
    )


def test_rings_are_printed(write):
    write("a.yaml", "extends: b\n")
    write("b.yaml", "extends: c\n")
    assert "recipes extend each other in a ring: a -> b -> c -> a" in refused(
        write("c.yaml", "extends: a\n").replace("c", "a")
    )
    assert "ring: self -> self" in refused(write("self.yaml", "extends: self\n"))


def test_a_file_may_extend_the_built_in_recipe_of_its_own_name(write):
    assert resolve(write("demo.yaml", "extends: demo\nlora: {rank: 4}\n")).recipe.lora.rank == 4


@pytest.mark.parametrize(
    "parent",
    [
        "../x",
        "/etc/x",
        "a/b",
        "..",
        "~/x",
        "C:\\x",
        "..\\x",
        ".hidden",
        '"a\\0"',
        "http://x",
        "[a]",
        "models/7b",
        "x" * 5000,
    ],
)
def test_a_parent_stays_beside_its_child(parent, write):
    message = refused(write("sub/x.yaml", f"extends: {parent}\n"))
    assert message.startswith("./sub/x.yaml:1: `extends`")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_parent_is_no_link_to_elsewhere(write, tmp_path):
    write("other/secret.yaml", "extends: demo\n")
    name = write("sub/x.yaml", "extends: secret\n")
    (tmp_path / "sub/secret.yaml").symlink_to(tmp_path / "other/secret.yaml")
    assert "a link that leads out of its folder" in refused(name)


def test_problems_of_a_parent_name_the_parent(write):
    write("parent.yaml", "extends: demo\n\nlora:\n  rnk: 3\n")
    assert refused(write("x.yaml", "extends: parent\ntrain: {epoch: 3}\n")).splitlines() == [
        "./x.yaml:2: no field `train.epoch`; did you mean `epochs`?",
        "parent.yaml:4: no field `lora.rnk`; did you mean `rank`?",
    ]


def test_check_tells_all_files(write):
    names = [write("一 二.yaml", "extends: demo\nlora: {rnk: 1}\n"), write("b.yaml", "- a\n"), "demo"]
    assert [problem.place for problem in check(names)] == ["./一 二.yaml:2", "./b.yaml:1"]


def test_a_run_keeps_the_name_of_its_recipe(write):
    name = write("runs/curated-40/2026-01-01/recipe.yaml", freeze(resolve("curated-40")))
    assert options.resolved(name, None).name == "recipe"
    write("runs/curated-40/2026-01-01/origin.json", "{}")
    assert options.resolved(name, None).name == "curated-40"
    assert "give its recipe" in _hint("runs/curated-40/2026-01-01/")


def _hint(name: str) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve(name)
    return caught.value.hint


# ---- copy, diff


@pytest.mark.parametrize("name", RECIPES)
def test_a_copy_works_where_it_lands(name, write):
    write("我的 配方/x.txt", "")
    path = copy(name, "我的 配方/mine.yaml")
    assert resolve(str(path)).recipe == resolve(name).recipe
    assert path.read_bytes() == (recipes_folder() / f"{name}.yaml").read_bytes()
    assert copy(name, "我的 配方").name == f"{name}.yaml"


def test_a_copy_never_writes_over_and_never_changes_meaning(write, tmp_path):
    write("a.yaml", "mine")
    for target, message in (
        ("a.yaml", "exists already"),
        ("a.txt", "end it in .yaml"),
        ("none/a.yaml", "cannot be written"),
    ):
        with pytest.raises(RecipeError) as caught:
            copy("demo", target)
        assert message in f"{caught.value.problem} {caught.value.hint}"
    assert (tmp_path / "a.yaml").read_text() == "mine"
    write("_base.yaml", "extends: demo\n")
    with pytest.raises(RecipeError, match="would mean another file there"):
        copy("demo", "b.yaml")


def test_diff():
    changes = diff(
        resolve("curated-160").recipe,
        resolve("curated-160", overrides=["lora.rank=8", "data.budget.math=3"]).recipe,
    )
    assert [(one.field, one.a, one.b) for one in changes] == [
        ("lora.rank", 16, 8),
        ("data.budget.math", None, 3),
    ]
    assert diff(resolve("demo").recipe, resolve("demo").recipe) == ()


def test_recipes_run_nothing(monkeypatch):
    """S9: resolving reaches no process, no import, no evaluation, no network, and opens files only to
    read."""
    seen = []
    watched = (
        "subprocess.Popen",
        "os.system",
        "exec",
        "import",
        "socket.connect",
        "os.exec",
        "os.posix_spawn",
    )

    def hook(event, arguments):
        if recording and (event in watched or (event == "open" and arguments[1] not in ("r", "rb", None))):
            seen.append((event, arguments))

    recording = False
    resolve("demo")  # everything lazy is loaded
    sys.addaudithook(hook)
    recording = True
    for name in RECIPES:
        resolve(
            name,
            model="33b",
            overrides=["summary=!!python/object/apply:os.system [id]", "model.note=${HOME} `id` $(id)"],
        )
    recording = False
    assert seen == [] and len(RECIPES) == 21


def test_installed_recipes_lie_in_the_package(monkeypatch, tmp_path):
    package = tmp_path / "doitune"
    (package / "recipes").mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(package / "recipe" / "files.py"))
    assert recipes_folder() == package.resolve() / "recipes"
