"""Reads which file imports which, and holds that against the floors of ``floors.toml``.

Every import counts: those inside functions and under ``TYPE_CHECKING`` too, ``import_module("a literal")``, and the strings of
a file that imports by computed names. A package's own ``__init__`` counts where it is named, not for being above a module.

Belongs here: reading, circles, imports that point up. Not here: the page that shows them (``architecture``).
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
#: The packages whose imports are read.
PACKAGES = ("analyzer", "graph_rules", "cli", "benchmarks", "docs")


@dataclass(frozen=True)
class Room:
    """A room of the house and the floor that it stands on, 0 being the highest."""

    name: str
    members: tuple[str, ...]
    holds: str
    floor: int
    shipped: bool = True
    planned: bool = False


@dataclass(frozen=True, order=True)
class Import:
    """A file imports another; ``text`` is how."""

    file: str
    line: int
    text: str
    imported: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Circle:
    """Files that reach each other, and the shortest way round among them."""

    files: tuple[str, ...]
    shortest: list[Import]

    def __str__(self) -> str:
        lines = [f"{len(self.files)} files reach each other: {', '.join(self.files)}; the shortest way round:"]
        return "\n    ".join([*lines, *map(str, self.shortest)])


class Floors:
    """The rooms from the top down."""

    def __init__(self, rooms: Iterable[Mapping[str, Any]]) -> None:
        self.rooms: list[Room] = []
        for given in rooms:
            fields = dict(given)
            beside = fields.pop("beside", None)
            above = self.rooms[-1] if self.rooms else None
            if beside is not None and (above is None or above.name != beside):
                raise ValueError(f"{fields['name']} must follow {beside}, which it stands beside")
            floor = -1 if above is None else above.floor
            fields["members"] = tuple(fields["members"])
            self.rooms.append(Room(**fields, floor=floor if beside else floor + 1))

    @classmethod
    def read(cls, path: Path = HERE / "floors.toml") -> Floors:
        """As the file says."""
        return cls(tomllib.loads(path.read_text(encoding="utf-8"))["room"])

    def room(self, file: str) -> Room | None:
        """The room that a file lies in, None where no room claims it."""
        for room in self.rooms:
            if any(file == member or (member.endswith("/") and file.startswith(member)) for member in room.members):
                return room
        return None

    def fault(self, found: Import) -> str | None:
        """What is wrong with an import; None where it points down or stays in its room."""
        here, there = self.room(found.file), self.room(found.imported)
        if here is None or there is None or here.name == there.name or here.floor < there.floor:
            return None
        way = "points up to" if here.floor > there.floor else "knows its neighbour"
        return f"{found}   [{here.name} {way} {there.name}]"


def sources(root: Path = ROOT, packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """File -> its text, for every Python file of the packages."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }


def imports(texts: Mapping[str, str]) -> list[Import]:
    """Every import of one of these files by another of them, in the order of files and lines."""
    modules = {_module(file): file for file in texts}
    found = {
        Import(file, line, text, modules[name])
        for file, source in texts.items()
        for line, text, name in _named(file, ast.parse(source, file), modules)
        if modules[name] != file
    }
    return sorted(found)


def circles(edges: Iterable[Import]) -> list[Circle]:
    """Every group of files that reach each other, largest first."""
    ways: dict[str, dict[str, Import]] = {}
    for edge in edges:
        ways.setdefault(edge.file, {}).setdefault(edge.imported, edge)
    reach = {file: _reached(ways, file) for file in ways}
    groups = {tuple(sorted(b for b in reach[a] if a in reach.get(b, ()))) for a in ways if a in reach[a]}
    return [
        Circle(group, min((_shortest(ways, start) for start in group), key=len))
        for group in sorted(groups, key=lambda group: (-len(group), group))
    ]


def _module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _named(file: str, tree: ast.Module, modules: Mapping[str, str]) -> Iterator[tuple[int, str, str]]:
    """Line, text and module of every import of a known module."""
    package = _module(file) if file.endswith("/__init__.py") else _module(file).rpartition(".")[0]
    computed = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name in modules:
                    yield node.lineno, f"import {name.name}", name.name
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            hits: dict[str, list[str]] = {}
            for name in node.names:
                inner = f"{base}.{name.name}"
                if (hit := inner if inner in modules else base) in modules:
                    hits.setdefault(hit, []).append(name.name)
            for hit, names in hits.items():
                yield node.lineno, f"from {'.' * node.level}{node.module or ''} import {', '.join(names)}", hit
        elif isinstance(node, ast.Call) and _imports_by_name(node.func):
            given = node.args[0] if node.args else None
            if not isinstance(given, ast.Constant):
                computed = True
            elif isinstance(given.value, str) and given.value in modules:
                yield node.lineno, f"import_module({given.value!r})", given.value
    if computed:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules:
                yield node.lineno, f"{node.value!r}, imported by name", node.value


def _imports_by_name(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _reached(ways: Mapping[str, Mapping[str, Import]], start: str) -> set[str]:
    """Every file that one leads to; itself too where a circle leads back."""
    found, todo = set[str](), [start]
    while todo:
        for file in ways.get(todo.pop(), ()):
            if file not in found:
                found.add(file)
                todo.append(file)
    return found


def _shortest(ways: Mapping[str, Mapping[str, Import]], start: str) -> list[Import]:
    """The shortest circle through a file that lies on one."""
    todo: list[list[Import]] = [[edge] for _, edge in sorted(ways[start].items())]
    seen = set[str]()
    for path in todo:  # grows while it is read: breadth first
        last = path[-1].imported
        if last == start:
            return path
        if last not in seen:
            seen.add(last)
            todo += [[*path, edge] for _, edge in sorted(ways.get(last, {}).items())]
    raise ValueError(f"{start} lies on no circle")
