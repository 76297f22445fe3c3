"""Settings given by a preset's name, a TOML or JSON file, or a model itself; what is wrong with one, in a line.

Belongs here: where a pydantic model of settings comes from. Not here: which settings there are and what they mean
(``schema``, ``analyzer.inputs.decode``).
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from analyzer.errors import InputError, UsageError
from analyzer.inputs.files import decode_text, read_bytes
from analyzer.nearest import nearest

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of settings.

    Attributes
    ----------
    schema, presets
        Its pydantic model, which forbids unknown keys, and ready ones by name.
    key
        ``KEY`` of ``MODEL.KEY.toml`` beside a model, of the model's metadata, of ``--KEY``, and of ``config.KEY``.
    called
        What people call it.
    hint
        What to do about a fault for which nothing better is known.
    hidden
        Keys that nobody gives.
    limit
        Bytes that a file or an entry of the metadata may hold.
    inherited
        (preset's values, given values) -> what of the preset stays.
    """

    schema: type[S]
    presets: Mapping[str, S]
    key: str
    called: str
    hint: str
    hidden: tuple[str, ...] = ()
    limit: int = 2**20
    inherited: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = lambda preset, given: preset

    @property
    def code(self) -> str:
        """The error code."""
        return f"config.{self.key}"

    def load(self, source: str | os.PathLike[str] | Mapping[str, Any] | S) -> S:
        """A preset by its name, a file by its path, or a mapping of the same keys.

        A file may start from a preset with ``preset = "NAME"`` and override keys.

        Raises
        ------
        UsageError
            ``config.KEY``, naming file, key and what is allowed; ``data.missing`` for a path that isn't there.
        """
        if isinstance(source, self.schema):
            return source
        if isinstance(source, Mapping):
            return self._build(dict(source), self.called)
        assert not isinstance(source, BaseModel)
        if isinstance(source, str) and source in self.presets:
            return self.presets[source]
        path = Path(source)
        if isinstance(source, str) and not path.suffix and len(path.parts) == 1 and not path.exists():
            raise UsageError(
                self.code, f"no {self.called} is called {source!r}", _near(source, self.presets, "presets")
            )
        try:
            text = decode_text(read_bytes(path, self.limit), path, self.code)
        except InputError as problem:
            raise UsageError(self.code, problem.message, problem.hint) from None
        return self._parse(text, str(path))

    def discover(self, model_path: str | os.PathLike[str] | None, metadata: Mapping[str, str]) -> S | None:
        """What comes with a model, if anything does.

        First ``MODEL.KEY.toml`` beside the model (``squeeze.onnx``: ``squeeze.KEY.toml``), then the model's metadata key
        ``KEY``, which holds TOML, JSON or a preset's name (never a path).

        Raises
        ------
        UsageError
            ``config.KEY`` where something is there but can't be read.
        """
        if model_path is not None:
            beside = Path(model_path)
            beside = beside.with_name(f"{beside.stem}.{self.key}.toml")
            if beside.exists():
                return self.load(beside)
        text = metadata.get(self.key, "").strip()
        if not text:
            return None
        if text in self.presets:
            return self.presets[text]
        where = f"the model's metadata key {self.key!r}"
        if len(text) > self.limit:
            raise UsageError(
                self.code, f"{where} is longer than {self.limit >> 20} MiB", f"say --{self.key} NAME or FILE"
            )
        return self._parse(text, where)

    def _parse(self, text: str, where: str) -> S:
        try:
            values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        except (ValueError, RecursionError) as problem:
            raise UsageError(
                self.code, f"{where} is neither TOML nor JSON: {problem}", "TOML: key = value, one a line"
            ) from None
        return self._build(values, where)

    def _build(self, values: dict[str, Any], where: str) -> S:
        base: dict[str, Any] = {}
        if (preset := values.pop("preset", None)) is not None:
            if not isinstance(preset, str) or preset not in self.presets:
                hint = _near(preset, self.presets, "allowed")
                raise UsageError(self.code, f"{where}: preset {_short(preset)} is unknown", hint)
            base = self.inherited(self.presets[preset].model_dump(mode="json", exclude_defaults=True), values)
        try:
            return self.schema.model_validate({**base, **values})
        except ValidationError as problem:
            raise self._explained(problem, where) from None

    def _explained(self, problem: ValidationError, where: str) -> UsageError:
        """The first fault as one line: file, key, value, what is allowed."""
        fault = problem.errors(include_url=False)[0]
        key = str(fault["loc"][0]) if fault["loc"] else ""
        if fault["type"] == "extra_forbidden":
            known = [name for name in self.schema.model_fields if name not in self.hidden]
            hint = _near(key, [*known, "preset"], "allowed")
            return UsageError(self.code, f"{where}: key {_short(key)} is unknown", hint)
        message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
        if not key:
            return UsageError(self.code, f"{where}: {message}", self.hint)
        hint = self.hint
        if fault["type"] == "literal_error":
            allowed = [word.strip("'") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            message, hint = "is not allowed", _near(fault["input"], allowed, "allowed")
        return UsageError(self.code, f"{where}: {key} = {_short(fault['input'])} {message}", hint)


def _near(word: Any, known: Iterable[str], label: str) -> str:
    known = list(known)
    meant, listing = nearest(str(word), known), f"{label}: {', '.join(known)}"
    return f"did you mean {meant!r}? {listing}" if meant else listing


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
