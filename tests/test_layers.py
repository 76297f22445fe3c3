"""An import only ever points down, and files go round in no circle: the floors of ``docs/floors.toml``, held by the code.

The first half reads the house, the second tests the reader on made-up sources. Every import counts, those inside functions and
under ``TYPE_CHECKING`` too: what a type needs is known all the same.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs.layers import ROOT, Floors, Import, circles, imports, sources

FLOORS = Floors.read()
#: Folders of the repository that an installed package doesn't have.
UNSHIPPED = {"benchmarks", "docs", "models", "tests"}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return sources()


@pytest.fixture(scope="module")
def edges(texts: dict[str, str]) -> list[Import]:
    return imports(texts)


def none(found: list[str], of_what: str) -> None:
    """Fail with what was found, a line each, and nothing else."""
    if found:
        pytest.fail("\n".join([f"{len(found)} {of_what}:", *found]), pytrace=False)


def test_every_import_points_down(edges: list[Import]) -> None:
    none([fault for edge in edges if (fault := FLOORS.fault(edge))], "imports point up")


def test_no_files_import_each_other_in_a_circle(edges: list[Import]) -> None:
    none([str(circle) for circle in circles(edges)], "circles of imports")


def test_every_file_lies_in_a_room(texts: dict[str, str]) -> None:
    none([file for file in texts if FLOORS.room(file) is None], "files without a room in docs/floors.toml")


def test_every_room_stands_or_is_planned() -> None:
    for room in FLOORS.rooms:
        absent = [member for member in room.members if not (ROOT / member).exists()]
        if room.planned:
            assert len(absent) == len(room.members), f"{room.name} has come: take `planned` away in docs/floors.toml"
        else:
            assert not absent, f"docs/floors.toml names for {room.name} what isn't there: {absent}"


def test_what_is_shipped_needs_nothing_that_is_not(texts: dict[str, str]) -> None:
    for file, text in texts.items():
        room = FLOORS.room(file)
        if room is not None and room.shipped:
            for node in ast.walk(ast.parse(text)):
                named = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                named += [name.name for name in node.names] if isinstance(node, ast.Import) else []
                outside = [name for name in named if name.split(".")[0] in UNSHIPPED]
                assert not outside, f"{file}:{getattr(node, 'lineno', 0)} imports {outside}"


# The reader.

HOUSE = Floors([
    {"name": "top", "members": ["pkg/__init__.py", "pkg/top/"], "holds": ""},
    {"name": "left", "members": ["pkg/left.py"], "holds": ""},
    {"name": "right", "members": ["pkg/right.py"], "holds": "", "beside": "left"},
    {"name": "low", "members": ["pkg/low/"], "holds": ""},
])  # fmt: skip
EMPTY = {"pkg/__init__.py": "", "pkg/top/__init__.py": "", "pkg/top/roof.py": "", "pkg/left.py": "", "pkg/right.py": "",
         "pkg/low/__init__.py": "", "pkg/low/a.py": "", "pkg/low/b.py": ""}  # fmt: skip


def faults(**changed: str) -> list[str]:
    """What is wrong with the made-up house where some files, named by their last part, say something."""
    names = {Path(file).stem: file for file in EMPTY if not file.endswith("__init__.py")} | {"init": "pkg/__init__.py"}
    found = imports(EMPTY | {names[name]: text for name, text in changed.items()})
    return [fault for edge in found if (fault := HOUSE.fault(edge))]


def test_an_import_that_points_down_or_stays_is_right() -> None:
    assert (
        faults(roof="from pkg.low.a import x\nimport pkg.left", a="from pkg.low import b", init="from pkg import top")
        == []
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from pkg.top.roof import x, y", "pkg/low/a.py:1: from pkg.top.roof import x, y"),
        ("import numpy, pkg.top.roof as r", "pkg/low/a.py:1: import pkg.top.roof"),
        ("from pkg.top import roof", "pkg/low/a.py:1: from pkg.top import roof"),
        ("from ..top import roof", "pkg/low/a.py:1: from ..top import roof"),
        ("from ..top.roof import x", "pkg/low/a.py:1: from ..top.roof import x"),
        ("def f():\n    from pkg.top.roof import x\n", "pkg/low/a.py:2: from pkg.top.roof import x"),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.top.roof import X\n",
            "pkg/low/a.py:3: from pkg.top.roof import X",
        ),
        (
            "import importlib\ndef f():\n    importlib.import_module('pkg.top.roof')",
            "pkg/low/a.py:3: import_module('pkg.top.roof')",
        ),
        ("from pkg import version", "pkg/low/a.py:1: from pkg import version"),
        (
            "from importlib import import_module\n_T = {'x': 'pkg.top.roof'}\nf = lambda name: import_module(_T[name])",
            "pkg/low/a.py:2: 'pkg.top.roof', imported by name",
        ),
    ],
)  # fmt: skip
def test_an_import_that_points_up_is_found_whatever_its_form(text: str, said: str) -> None:
    assert faults(a=text) == [f"{said}   [low points up to top]"]


def test_rooms_side_by_side_must_not_know_each_other() -> None:
    assert faults(right="import pkg.left") == ["pkg/right.py:1: import pkg.left   [right knows its neighbour left]"]


def test_what_is_no_import_does_not_count() -> None:
    assert faults(a="'''from pkg.top import roof'''\nx = 'pkg.top.roof'\nimport pkg_other, os.path") == []


def test_a_circle_is_found_within_a_room_and_behind_functions() -> None:
    made = EMPTY | {"pkg/low/a.py": "from pkg.low import b", "pkg/low/b.py": "def f():\n    import pkg.low.a"}
    (circle,) = circles(imports(made))
    assert circle.files == ("pkg/low/a.py", "pkg/low/b.py")
    assert [str(edge) for edge in circle.shortest] == [
        "pkg/low/a.py:1: from pkg.low import b",
        "pkg/low/b.py:2: import pkg.low.a",
    ]
    assert "2 files reach each other" in str(circle)


def test_two_circles_that_share_a_file_are_one_group_and_the_shorter_is_told() -> None:
    made = {"p/a.py": "import p.b\nimport p.c", "p/b.py": "import p.a", "p/c.py": "import p.d", "p/d.py": "import p.a"}
    (circle,) = circles(imports(made))
    assert circle.files == ("p/a.py", "p/b.py", "p/c.py", "p/d.py")
    assert [edge.imported for edge in circle.shortest] == ["p/b.py", "p/a.py"]


def test_a_house_without_circles() -> None:
    assert circles(imports({"p/a.py": "import p.b, p.c", "p/b.py": "import p.c", "p/c.py": ""})) == []


def test_a_package_that_takes_from_its_modules_is_no_circle_until_one_takes_from_it() -> None:
    package = {"p/__init__.py": "from p.a import x", "p/a.py": "from p.b import y", "p/b.py": ""}
    assert circles(imports(package)) == []
    (circle,) = circles(imports(package | {"p/b.py": "from p import x"}))
    assert circle.files == ("p/__init__.py", "p/a.py", "p/b.py")


def test_a_room_beside_another_must_follow_it() -> None:
    with pytest.raises(ValueError, match="must follow"):
        Floors([{"name": "a", "members": [], "holds": "", "beside": "b"}])
