"""Laws of the strict text: what is refused, what keeps its place, and that no bytes make a traceback."""

import random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from soon import soon
from test_fuzz import error_of

from doitune.errors import RecipeError
from doitune.recipe import yaml_text as recipe_text
from doitune.recipe.files import recipes_folder
from doitune.recipe.nodes import Fields, Items, Scalar
from doitune.recipe.yaml_text import read_bytes, read_file, read_value, write_tree

REFUSED = {
    "anchor": (b"a: 1\nb: &x 2\n", "r.yaml:2: anchor `&x`"),
    "alias": (b"a: 1\nb: *x\n", "r.yaml:2: alias `*x`"),
    "tag": (b"a: !!python/object:os.system x\n", "r.yaml:1: tag"),
    "empty tag": (b"a: ! x\n", "r.yaml:1: tag"),
    "merge key": (b"a: 1\n<<: {b: 2}\n", "r.yaml:2: merge key"),
    "duplicate": (b"a: 1\nb:\n  c: 1\n  c: 2\n", "r.yaml:4: `b.c` is given twice, first in line 3"),
    "two documents": (b"a: 1\n---\nb: 2\n", "r.yaml:2: a second document"),
    "complex key": (b"? [a]\n: 1\n", "r.yaml:1: a key must be a name"),
    "deep": (b"a: " + b"[" * 2000, "r.yaml:1: nested deeper than 32"),
    "deep block": (b"".join(b" " * n + b"a:\n" for n in range(40)), "r.yaml:32: nested deeper than 32"),
    "large": (b"#" * (recipe_text.MAX_BYTES + 1), "r.yaml: is larger than 256 KiB"),
    "not UTF-8": (b"a: 1\nb: \xff\n", "r.yaml:2: byte 0xff is not UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "r.yaml:1: byte"),
    "list": (b"- a\n", "r.yaml:1: a recipe is a mapping"),
    "scalar": (b"a\n", "r.yaml:1: a recipe is a mapping"),
    "syntax": (b"a: 1\nb: [1,\nc: 2\n", "not readable as YAML"),
    "tab": (b"a:\n\tb: 1\n", "r.yaml:2: not readable as YAML"),
    "NUL": (b"a: \x00\n", "not readable as YAML"),
    "impossible escape": (b'a: "\\UFFFFFFFF"\n', "not readable as YAML"),
    "long version": (b"%YAML 1." + b"9" * 6000 + b"\n--- \na: 1\n", "not readable as YAML"),
}


@pytest.fixture(params=["libyaml", "python"])
def loader(request, monkeypatch):
    """Both scanners of PyYAML: wheels bring libyaml, other builds may not."""
    chosen = getattr(yaml, "CSafeLoader", None) if request.param == "libyaml" else yaml.SafeLoader
    if chosen is None:
        pytest.skip("this PyYAML is built without libyaml")
    monkeypatch.setattr(recipe_text, "_LOADER", chosen)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_place(case, loader):
    data, message = REFUSED[case]
    with pytest.raises(RecipeError) as caught:
        read_bytes(data, "r.yaml")
    assert message in str(caught.value)


def test_all_problems_at_once():
    with pytest.raises(RecipeError) as caught:
        read_bytes(b"a: &x 1\nb: *x\nc: !t 1\nc: 2\n<<: 1\n", "r.yaml")
    assert [problem.place for problem in caught.value.problems] == [
        "r.yaml:1",
        "r.yaml:2",
        "r.yaml:3",
        "r.yaml:4",
        "r.yaml:5",
    ]


def test_scalars_stay_text_with_their_line(loader):
    tree = read_bytes(
        "\ufeffa: 2e-4\r\nb: no\nc: 012\nd: 2024-13-45\ne: ''\nf:\ng: |\n  x\nh: [yes, '1:30']\n".encode(),
        "r.yaml",
    )
    entries = tree.entries
    assert entries["a"] == Scalar("2e-4", "r.yaml:1")
    assert [entries[key].text for key in "bcd"] == ["no", "012", "2024-13-45"]
    assert (
        not entries["e"].is_null
        and entries["f"].is_null
        and entries["g"] == Scalar("x\n", "r.yaml:7", quoted=True)
    )
    assert entries["h"] == Items(
        (Scalar("yes", "r.yaml:9"), Scalar("1:30", "r.yaml:9", quoted=True)), "r.yaml:9"
    )


def test_lines_are_those_of_an_editor(loader):
    """U+2028 and U+0085 end a line for YAML and for str.splitlines, but for no editor."""
    tree = read_bytes("a: 'x\u2028y\u0085z'\nb: 1\n".encode(), "r.yaml")
    assert tree.entries["b"].place == "r.yaml:2"


def test_both_scanners_read_the_same(monkeypatch):
    files = sorted(recipes_folder().rglob("*.yaml"))
    assert len(files) > 25
    for path in files:
        trees = []
        for chosen in (recipe_text._LOADER, yaml.SafeLoader):
            monkeypatch.setattr(recipe_text, "_LOADER", chosen)
            trees.append(read_file(path, path.name))
        assert trees[0] == trees[1]


def test_values_of_the_command_line():
    assert read_value("<|im_start|>", "p") == Scalar("<|im_start|>", "p")
    assert read_value(" a: b # c", "p") == Scalar("a: b # c", "p")
    assert read_value("", "p").is_null and not read_value("''", "p").is_null
    assert read_value("[1, 2]", "p") == Items((Scalar("1", "p"), Scalar("2", "p")), "p")
    assert isinstance(read_value("{a: 1}", "p"), Fields)
    for text in ("[1", "{a: &x 1}", "[!t 1]", "['a\ud800']", "[1]\n--- 2"):
        with pytest.raises(RecipeError, match=r"^p: "):
            read_value(text, "p")


def test_missing_and_unreadable_files(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / ("x" * 5000)):
        with pytest.raises(RecipeError):
            read_file(path, "r.yaml")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.lists(TEXTS, max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TEXTS, st.dictionaries(TEXTS, LEAVES, max_size=4) | LEAVES, max_size=5))
def test_written_text_reads_back(tree):
    read = read_bytes(write_tree(tree).encode(), "r.yaml") if tree else Fields()
    assert _plain(read) == _texts(tree)


def _plain(node):
    if isinstance(node, Fields):
        return {key: _plain(value) for key, value in node.entries.items()}
    if isinstance(node, Items):
        return [_plain(item) for item in node.items]
    return None if node.is_null else node.text


def _texts(value):
    if isinstance(value, dict):
        return {key: _texts(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_texts(one) for one in value]
    return (
        value
        if value is None or isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )


PIECES = [
    *(
        b"[",
        b"{",
        b"&a ",
        b"*a",
        b"!!x ",
        b"<<: ",
        b"---\n",
        b": ",
        b"\n  ",
        b"\t",
        b"\x00",
        b"\xff",
        b"\xe4\xbd",
        b"\\ud800",
        b"'",
        b'"',
    ),
    *(
        b"| ",
        b"%YAML 9.9\n",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"9" * 400,
        b"1:30",
        b"extends: demo\n",
        b"extends: x\n",
        b"null",
        b"{}",
        b"- ",
    ),
    *(b"? ", b"train:\n", b"  budget: ", b"\r", b"#"),
]


def mutated(data: bytes, random_: random.Random) -> bytes:
    """A few edits of bytes, pieces of YAML, and whole lines."""
    for _ in range(random_.randint(1, 6)):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(5)
        if kind == 0:
            data = data[:at] + bytes([random_.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + random_.choice(PIECES) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + random_.randint(1, 30) :]
        else:
            lines = data.split(b"\n")
            lines.insert(random_.randrange(len(lines) + 1), random_.choice(lines))
            data = b"\n".join(lines)
    return data


def test_mutated_recipes_never_make_a_traceback(tmp_path):
    """3,000 damaged recipes: each resolves or is refused with a place, well within a tenth of a second of
    work."""
    random_ = random.Random(0)
    seeds = [path.read_bytes() for path in sorted(recipes_folder().rglob("*.yaml"))]
    path = tmp_path / "x.yaml"
    refused = 0
    for _ in range(3000):
        path.write_bytes(mutated(random_.choice(seeds), random_))
        if error := soon(lambda: error_of(path), 0.1, path.read_bytes()):
            refused += 1
            assert all(str(problem) and problem.place for problem in error.problems)
            str(error).encode("utf-8")
    assert refused > 1000


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data):
    try:
        read_bytes(data, "r.yaml")
    except RecipeError as error:
        assert all(problem.place.startswith("r.yaml") for problem in error.problems)
