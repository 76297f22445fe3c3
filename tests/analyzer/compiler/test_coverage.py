"""What torch explains also compiles: every differentiable operator, exports of everyday architectures, odd model files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import analyzer
from tests.analyzer.compiler.compiling import Feed, Outcome, outcomes
from tests.analyzer.compiler.single_operators import wrapped
from tests.analyzer.importer import corpus_cases
from tests.graph_rules.operator_cases import FORMS, Form
from tests.graph_rules.test_finite_differences import CHECKED, forms

#: Share of what torch explains that must compile.
LEAST = 0.95
#: Odd files that are costly to explain: an endless loop, a chain of 30,000 nodes.
COSTLY = ("39 Loop 2^62", "55 long chain")
#: One of each kind that can't be compiled otherwise than by a file of its own.
REFUSED = {"Unique": "compile.data_dependent"}


def hold(found: Iterable[Outcome], least: float = LEAST) -> None:
    """None failed, enough compiled; what is refused is refused in words."""
    explained = [each for each in found if each.kind != "unexplained"]
    compiled = [each for each in explained if each.kind == "ok"]
    said = "\n".join(str(each) for each in explained if each.kind != "ok")
    assert explained
    assert not [each for each in explained if each.kind == "failed"], said
    assert len(compiled) >= least * len(explained), said


def operator(form: Form, name: str) -> list[Outcome]:
    def make() -> tuple[bytes, Feed]:
        blob, feed = wrapped(form)
        return blob.SerializeToString(), feed

    return outcomes(name, make)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_operator(part: int) -> None:
    hold(
        outcome
        for domain, name in CHECKED[part::4]
        for label, form in forms(domain, name)
        for outcome in operator(form, f"{domain}:{name} {label}")
    )


@pytest.mark.parametrize("name", ["GroupQueryAttention", "GridSample", "FusedConv", "SkipLayerNormalization", "CDist"])
def test_operators_of_onnxruntime(name: str) -> None:
    found = [outcome for form in FORMS["com.microsoft", name] for outcome in operator(form, name)]
    hold(found, 1.0)


def test_what_depends_on_values_is_refused() -> None:
    found = operator(FORMS["com.microsoft", "Unique"][0], "Unique")
    assert {each.kind for each in found} == {"refused"}
    assert all(REFUSED["Unique"] in each.says for each in found)


def test_odd_files(tmp_path: Path) -> None:
    found: list[Outcome] = []
    for number, case in enumerate(case for case in corpus_cases.CASES if not case.code and case.name not in COSTLY):
        folder = tmp_path / str(number) / "model"
        folder.mkdir(parents=True)
        path = case.build(folder)
        inputs = analyzer.load(path, device="cpu").inputs
        draw = np.random.default_rng(0)
        feed = {
            key: draw.standard_normal([size if isinstance(size, int) else 2 for size in spec.shape]).astype(np.float32)
            for key, spec in inputs.items()
        }
        found += outcomes(case.name, lambda path=path, feed=feed: (path, feed))  # type: ignore[misc]
    hold(found, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_exports(shared: Path, part: int) -> None:
    folder = shared / "exported"
    if not folder.exists():
        pytest.skip("needs the exports of the reference data folder, which are absent here")
    found: list[Outcome] = []
    for path in sorted(folder.glob("*.onnx"))[part::4]:
        with np.load(folder / f"{path.name.partition('__')[0]}.npz") as io:
            feed = {key: io[f"in{i}"] for i, key in enumerate(analyzer.load(path, device="cpu").inputs)}
        found += outcomes(path.name, lambda path=path, feed=feed: (path, feed))  # type: ignore[misc]
    hold(found, 1.0)


def test_a_refusal_names_the_operator_and_the_node() -> None:
    draw = np.random.default_rng(0)
    form: Form = (
        helper.make_model(
            helper.make_graph(
                [helper.make_node("Det", ["x"], ["y"], name="volume")],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 3])],
                [onnx.ValueInfoProto(name="y")],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        ),
        {"x": draw.standard_normal((2, 3, 3)).astype(np.float32)},
    )
    (gradient, *_) = operator(form, "Det")
    assert gradient.kind == "refused"
    assert "linalg_det" in gradient.says
    assert "Det node 'volume'" in gradient.says
