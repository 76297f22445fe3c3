"""The registry: complete, consistent with its functions, strict about parameters, cheap to import."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import analyzer
from analyzer.errors import UsageError
from analyzer.methods import registry
from analyzer.methods.parameters import Parameter
from analyzer.methods.registry import MethodInfo, get, method
from analyzer.nearest import did_you_mean

NAMES = list(analyzer.methods())


def test_methods_is_a_function_and_a_package() -> None:
    assert analyzer.methods() == registry.methods()
    assert analyzer.methods.__name__ == "analyzer.methods"
    assert {"gradient", "integrated-gradients", "smoothgrad", "lrp", "grad-cam", "occlusion", "lime"} <= set(NAMES)


def test_methods_come_in_the_order_of_their_families() -> None:
    order = list(typing.get_args(registry.Family))
    families = [order.index(info.family) for info in analyzer.methods().values()]
    assert families == sorted(families)
    assert list(analyzer.methods()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_method_says_what_it_is(name: str) -> None:
    info = get(name)
    assert info.name == name == name.lower()
    assert " " not in name
    assert info.summary.endswith((".", "?"))
    assert len(info.summary) < 140
    assert any(character.isdigit() for character in info.source), "a year"
    assert info.needs in ("trace", "runtime")
    assert info.modalities
    assert set(info.modalities) <= {"image", "table", "series", "tokens", "text"}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_documented_and_its_default_valid(name: str) -> None:
    info = get(name)
    arguments = inspect.signature(info.function).parameters
    assert set(info.parameters) == {k for k, a in arguments.items() if a.kind is a.KEYWORD_ONLY}
    for key, parameter in info.parameters.items():
        assert parameter.name == key
        assert parameter.doc, f"{name}.{key} has no line of documentation"
        assert parameter.default is not inspect.Parameter.empty, f"{name}.{key} has no default"
        assert "Annotated" not in parameter.type_name
        if parameter.annotation is not Any:
            from pydantic import ConfigDict, TypeAdapter

            config = ConfigDict(arbitrary_types_allowed=True)
            TypeAdapter(parameter.annotation, config=config).validate_python(parameter.default)
    assert info.check({}) == {k: p.default for k, p in info.parameters.items()}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("gradeint", "gradient"),
        ("Grad-CAM", "grad-cam"),
        ("ocllusion", "occlusion"),
        ("integrated_gradients", "integrated-gradients"),
    ],
)
def test_a_mistyped_method_gets_the_near_name(wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {right}") as caught:
        get(wrong)
    assert caught.value.code == "method.unknown"


def test_an_unknown_method_without_a_near_name() -> None:
    with pytest.raises(UsageError) as caught:
        get("ξ")
    assert caught.value.code == "method.unknown"
    assert "did you mean" not in str(caught.value)
    assert did_you_mean("ξ", NAMES) == ""


# --- parameters -----------------------------------------------------------------------------------------------------


def parameters(**annotations: Any) -> MethodInfo:
    """A method whose parameters have these types and None as default."""
    made = {k: Parameter(k, a, None, "doc") for k, a in annotations.items()}
    return MethodInfo("made", "gradient", "trace", ("image",), True, False, "S.", "2020", made, lambda: None)


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, 5, 5),
        (int, "5", 5),
        (int, np.int64(5), 5),
        (int, 5.0, 5),
        (float, 5, 5.0),
        (float, np.float32(0.5), 0.5),
        (float, "0.5", 0.5),
        (bool, "false", False),
        (bool, 0, False),
        (int | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (tuple[int, int], [1, 2], (1, 2)),
        (int | tuple[int, ...], (3, 4), (3, 4)),
        (dict[str, str] | None, {"Conv": "flat"}, {"Conv": "flat"}),
        (list[float], np.array([1.0, 2.0]), [1.0, 2.0]),
    ],
)
def test_values_that_fit_are_converted(annotation: Any, given: Any, expected: Any) -> None:
    got = parameters(p=annotation).check({"p": given})["p"]
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [
        (int, "five"), (int, 5.5), (int, [5]), (int, float("nan")), (float, "x"), (bool, 2), (bool, "perhaps"),
        (Literal["a", "b"], "c"), (tuple[int, int], [1, 2, 3]), (dict[str, str], {"a": object()}), (str, 3),
        (int, np.array([1, 2])), (str, b"\xff"), (int, object()),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused_with_type_and_meaning(annotation: Any, given: Any) -> None:
    with pytest.raises(UsageError, match="made: p=") as caught:
        parameters(p=annotation).check({"p": given})
    assert caught.value.code == "params.invalid"
    assert caught.value.hint.startswith("p is ")
    assert "doc" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_arrays_pass_where_anything_may() -> None:
    value = np.arange(3)
    assert parameters(p=Any).check({"p": value})["p"] is value


def test_unknown_parameters_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"no parameter 'wimdow' \(did you mean window\?\)") as caught:
        get("occlusion").check({"wimdow": 3})
    assert caught.value.code == "params.unknown"
    assert "stride" in caught.value.hint
    with pytest.raises(UsageError, match="none"):
        get("gradient").check({"steps": 3})


# --- registering ----------------------------------------------------------------------------------------------------


def test_registering_reads_signature_and_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))

    @method("made-up", "gradient", complete=True, source="Nobody 2020")
    def made_up(context: Any, *, count: Annotated[int, "how many"] = 3, plain: float = 0.5) -> None:
        """First line.

        More.
        """

    info = get("made-up")
    assert (info.summary, info.complete, info.needs, info.family) == ("First line.", True, "trace", "gradient")
    assert info.parameters["count"] == Parameter("count", int, 3, "how many")
    assert info.parameters["count"].type_name == "int"
    assert info.parameters["plain"].doc == ""
    with pytest.raises(ValueError, match="twice"):
        method("made-up", "gradient", source="Nobody 2020")(made_up)


def test_the_registry_needs_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, analyzer; names = list(analyzer.methods()); assert len(names) > 5;"
        "heavy = {'torch', 'onnxruntime', 'sklearn', 'skimage', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", ["rise", "kernel-shap"])
def test_a_method_whose_module_has_its_name_is_found_without_the_others(name: str) -> None:
    code = (
        "import sys; from analyzer.methods import registry;"
        f"assert registry.get({name!r}).name == {name!r};"
        "others = {'lrp', 'gradients', 'deeplift'} & {m.rpartition('.')[2] for m in sys.modules if 'analyzer.methods' in m};"
        "assert not others, others;"
        f"assert list(registry.methods()) == {NAMES!r}, 'all are there when all are asked for'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_perturbation_methods_never_import_torch() -> None:
    runtime = [name for name, info in analyzer.methods().items() if info.needs == "runtime"]
    code = f"""
import sys
import numpy as np
from tests.common.checks import explain
from tests.common.models import cnn
x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
for name in {runtime!r}:
    explain(cnn(), x, name)
    assert "torch" not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
