"""The package's list of modules is true: all are there, and imports only point to those above."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import graph_rules

FOLDER = Path(graph_rules.__file__).parent
ROWS = re.findall(r"^(``\S.*?)  ", graph_rules.__doc__ or "", re.MULTILINE)
ORDER = [name for row in ROWS for name in re.findall(r"``(\w+)``", row)]


def imported(path: Path) -> set[str]:
    """Dotted names of all imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_is_listed() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_to_modules_above(name: str) -> None:
    for each in imported(FOLDER / f"{name}.py"):
        package, _, rest = each.partition(".")
        assert package not in ("analyzer", "cli", "onnx", "onnxruntime"), each
        if package == "graph_rules":
            assert rest.split(".")[0] in ORDER[: ORDER.index(name)], each
