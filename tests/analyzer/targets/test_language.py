"""The target language, on plain arrays: every form, every rank, and text that tries to be code."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import UsageError
from analyzer.inputs import Labels
from analyzer.targets.indexing import parse_index
from analyzer.targets.language import output_of, resolve
from analyzer.targets.target import weighted

LABELS = Labels(("ant", "bee", "cat", "dog"))
SCORES = np.array([[0.1, 0.7, -0.2, 0.4], [3.0, -1.0, 2.0, 2.5]])


def code(target: Any, output: Any = SCORES, labels: Labels | None = LABELS) -> str:
    """The code of the error that a target gives."""
    with pytest.raises(UsageError) as caught:
        resolve(target, output, labels)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return caught.value.code


# --- classes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (2, (2, 2)),
        ("2", (2, 2)),
        (np.int64(2), (2, 2)),
        (np.array(2), (2, 2)),
        ("cat", (2, 2)),
        ("top1", (1, 0)),
        ("top2", (3, 3)),
        ("top4", (2, 1)),
        ([3, 0], (3, 0)),
        ((3, 0), (3, 0)),
        (np.array([3, 0]), (3, 0)),
        (["dog", "top2"], (3, 3)),
        (["1", 1], (1, 1)),
    ],
)
def test_a_class_is_one_weight_of_one(target: Any, classes: tuple[int, ...]) -> None:
    found = resolve(target, SCORES, LABELS)
    np.testing.assert_array_equal(found.weights, np.eye(4)[list(classes)])
    assert found.classes == classes
    assert found.names == tuple(f"{LABELS.name(c)} ({c})" for c in classes)
    np.testing.assert_array_equal(found.score(SCORES), SCORES[[0, 1], list(classes)])
    assert found.notes == ()


def test_without_labels_classes_have_numbers() -> None:
    assert resolve(3, SCORES).names == ("class 3", "class 3")


def test_ties_are_ranked_by_index_and_nan_is_last() -> None:
    assert resolve("top1", np.array([[1.0, 1.0, 0.0]])).classes == (0,)
    assert resolve("top2", np.array([[1.0, 1.0, 0.0]])).classes == (1,)
    assert resolve("top1", np.array([[np.nan, 1.0, np.inf]])).classes == (2,)
    assert resolve("top3", np.array([[np.nan, 1.0, np.inf]])).classes == (0,)


def test_top_of_unsigned_and_half_numbers() -> None:
    assert resolve("top1", np.array([[3, 200, 7]], np.uint8)).classes == (1,)
    assert resolve("top1", np.array([[3.0, 200.0, 7.0]], np.float16)).classes == (1,)


@pytest.mark.parametrize(
    ("target", "weights", "name"),
    [
        ("contrast:0,2", [1, 0, -1, 0], "ant (0) minus cat (2)"),
        ("contrast: dog , ant ", [-1, 0, 0, 1], "dog (3) minus ant (0)"),
        ("contrast:top1,top2", [0, 1, 0, -1], "bee (1) minus dog (3)"),
        ("contrast:1,1", [0, 0, 0, 0], "bee (1) minus bee (1)"),
    ],
)
def test_a_contrast_is_one_class_minus_another(target: str, weights: list[int], name: str) -> None:
    found = resolve(target, SCORES[:1], LABELS)
    np.testing.assert_array_equal(found.weights, [weights])
    assert found.names == (name,)
    assert found.classes == (-1,)


def test_contrasts_may_differ_by_sample() -> None:
    found = resolve(["contrast:0,1", "contrast:2,3"], SCORES)
    np.testing.assert_array_equal(found.weights, [[1, -1, 0, 0], [0, 0, 1, -1]])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (4, "target.out_of_range"),
        (-1, "target.out_of_range"),
        ("-1", "target.out_of_range"),
        ("top0", "target.out_of_range"),
        ("top5", "target.out_of_range"),
        ("top999999999999999999", "target.out_of_range"),
        ([0], "target.count"),
        ([0, 1, 2], "target.count"),
        ([], "target.count"),
        ([0, 9], "target.out_of_range"),
        ("contrast:0", "target.syntax"),
        ("contrast:0,", "target.syntax"),
        ("contrast:", "target.syntax"),
        ("contrast:0,9", "target.out_of_range"),
        ("contrast:,1", "target.unknown_label"),
        ("zebra", "target.unknown_label"),
        ("", "target.unknown_label"),
        ("top1\n", "target.unknown_label"),
        ("9" * 5000, "target.unknown_label"),
        ("top" + "9" * 5000, "target.unknown_label"),
        (True, "target.syntax"),
        (np.bool_(True), "target.syntax"),
        ([True, False], "target.syntax"),
        (1.0, "target.syntax"),
        (None, "target.syntax"),
        ({"a": 1}, "target.syntax"),
        ([[0], [1]], "target.syntax"),
        (np.zeros((2, 2), int), "target.syntax"),
        (b"1", "target.syntax"),
    ],
)
def test_wrong_targets_have_their_code(target: Any, expected: str) -> None:
    assert code(target) == expected


def test_a_label_without_labels_is_said_to_need_them() -> None:
    assert code("cat", labels=None) == "target.unknown_label"
    assert code("x" * 10000, labels=None) == "target.unknown_label"


def test_a_label_beyond_the_models_classes_is_refused() -> None:
    assert code("dog", SCORES[:, :2]) == "target.out_of_range"


# --- ranks ----------------------------------------------------------------------------------------------------------


def test_rank_zero_and_one_are_values() -> None:
    scalar = resolve("top1", np.array(3.5))
    assert scalar.weights.shape == (1,)
    assert scalar.names == ("value",)
    np.testing.assert_array_equal(scalar.score(np.array(3.5)), [3.5])
    batch = resolve(0, np.array([3.5, -1.0]))
    np.testing.assert_array_equal(batch.weights, [1.0, 1.0])
    np.testing.assert_array_equal(batch.score(np.array([3.5, -1.0])), [3.5, -1.0])
    assert batch.names == ("value", "value")
    assert batch.classes == (-1, -1)
    assert code(1, np.array([3.5, -1.0])) == "target.out_of_range"


def test_a_column_of_one_is_a_value() -> None:
    found = resolve("top1", np.array([[2.0], [3.0]]))
    np.testing.assert_array_equal(found.weights, [[1.0], [1.0]])
    assert found.names == ("value", "value")


@pytest.mark.parametrize("shape", [(2, 4, 1), (2, 4, 1, 1), (2, 4, 1, 1, 1)])
def test_trailing_ones_do_not_count(shape: tuple[int, ...]) -> None:
    output = SCORES.reshape(shape)
    for target, classes in (("top1", (1, 0)), (3, (3, 3)), ("bee", (1, 1)), ([0, 2], (0, 2))):
        found = resolve(target, output, LABELS)
        assert found.weights.shape == shape
        np.testing.assert_array_equal(found.weights.reshape(2, 4), np.eye(4)[list(classes)])
        assert found.classes == classes
        assert found.notes == ()


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2, 2), (2, 1, 6, 5)])
def test_in_a_higher_rank_top_is_the_samples_element(shape: tuple[int, ...]) -> None:
    output = np.random.default_rng(0).standard_normal(shape)
    for rank in (1, 2, 7):
        found = resolve(f"top{rank}", output)
        expected = np.sort(output.reshape(len(output), -1), axis=1)[:, -rank]
        np.testing.assert_array_equal(found.score(output), expected)
        np.testing.assert_array_equal((found.weights != 0).reshape(len(output), -1).sum(axis=1), 1)
        assert found.classes == (-1,) * len(output)
        assert "rank" in found.notes[0]
        index = found.names[0].removeprefix("element [").removesuffix("]")
        assert output[(0, *map(int, index.split(",")))] == expected[0]
    assert code(f"top{output[0].size + 1}", output) == "target.out_of_range"


def test_in_a_higher_rank_an_index_is_summed_and_said_so() -> None:
    output = np.random.default_rng(0).standard_normal((2, 4, 3, 3))
    found = resolve(2, output)
    np.testing.assert_allclose(found.score(output), output[:, 2].sum(axis=(1, 2)))
    assert "sum" in found.notes[0]
    assert code(4, output) == "target.out_of_range"
    assert code(-1, output) == "target.out_of_range"
    assert code(True, output) == "target.syntax"
    assert code("ant", output) == "target.syntax"


def test_contrast_in_a_higher_rank() -> None:
    output = np.random.default_rng(0).standard_normal((2, 4, 3, 3))
    found = resolve("contrast:1,3", output)
    np.testing.assert_allclose(found.score(output), (output[:, 1] - output[:, 3]).sum(axis=(1, 2)))


def test_a_score_hides_non_finite_values_that_do_not_count() -> None:
    output = np.array([[1.0, np.nan, np.inf]])
    np.testing.assert_array_equal(resolve(0, output).score(output), [1.0])
    np.testing.assert_array_equal(weighted(output, np.array([[2.0, 0.0, 0.0]])), [2.0])
    assert np.isnan(resolve(1, output).score(output)[0])


def test_scores_are_summed_in_double_precision() -> None:
    output = np.full((1, 3), 2**24, np.float32) + np.array([[0, 2, 0]], np.float32)
    found = resolve("out[:]", output)
    assert found.score(output).dtype == np.float64
    assert found.score(output)[0] == 3 * 2**24 + 2


# --- indexing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "output"),
    [
        ("scores[:,3]", "scores"),
        ("a/b:0[0]", "a/b:0"),
        ("[:,3]", None),
        ("scores", None),
        ("top1", None),
        (3, None),
        ([1, 2], None),
        ("scores[0][1]", None),
        ("x[[0]]", None),
    ],
)
def test_the_output_that_a_target_names(target: Any, output: str | None) -> None:
    assert output_of(target) == output


part = st.one_of(
    st.integers(-3, 2),
    st.slices(4),
    st.just(Ellipsis),
)


def written(index: Any) -> str:
    """An index as one writes it."""
    if isinstance(index, slice):
        text = ":".join("" if v is None else str(v) for v in (index.start, index.stop, index.step))
        return text if ":" in text else f"{text}:"
    return "..." if index is Ellipsis else str(index)


@given(st.lists(part, min_size=1, max_size=4), st.integers(0, 2**16))
@settings(deadline=None, max_examples=150)
def test_an_index_selects_what_numpy_selects(parts: list[Any], seed: int) -> None:
    output = np.random.default_rng(seed).standard_normal((3, 3, 4))
    text = ",".join(written(p) for p in parts)
    marked = np.zeros(output.shape)
    try:
        marked[tuple(parts)] = 1.0
        fits = bool(marked.any())
    except (IndexError, ValueError):
        fits = False
    if not fits:
        assert code(f"out[{text}]", output) == "target.out_of_range"
        return
    assert parse_index(text) == tuple(parts)
    found = resolve(f"out[{text}]", output)
    np.testing.assert_array_equal(found.weights, marked)
    np.testing.assert_allclose(found.score(output), (output * marked).sum(axis=(1, 2)), atol=1e-12)
    assert found.names == (f"out[{text}]",) * 3
    assert found.classes == (-1,) * 3


def test_an_index_on_every_rank() -> None:
    np.testing.assert_array_equal(resolve("y[...]", np.array(2.0)).weights, [1.0])
    np.testing.assert_array_equal(resolve("y[1]", np.array([2.0, 3.0])).weights, [0.0, 1.0])
    np.testing.assert_array_equal(resolve("y[:, -1]", SCORES).weights, [[0, 0, 0, 1]] * 2)
    np.testing.assert_array_equal(resolve("[:,1:3]", SCORES).weights, [[0, 1, 1, 0]] * 2)
    found = resolve("y[:,0,1,::2]", np.zeros((2, 3, 4, 5)))
    assert found.weights.sum() == 2 * 3
    assert found.weights[1, 0, 1, 4] == 1.0


@pytest.mark.parametrize(
    "index",
    [
        "__import__('os')",
        "__import__('os').system('touch /tmp/owned')",
        "exec('1')",
        "().__class__",
        "lambda: 0",
        "a := 1",
        "x for x in y",
        "*x",
        "**x",
        "1 if 1 else 2",
        "await x",
        "yield",
        "None",
        ":,None",
        "True",
        "1.0",
        "1e3",
        "1+1",
        "2**9999999",
        "1j",
        "'a'",
        "b'a'",
        "f'{1}'",
        "{}",
        "{{}: 1}",
        "{1, 2}",
        "",
        " ",
        ",",
        "1,,2",
        "1 2",
        "1;2",
        "1\n2",
        "#",
        "0\x00",
        "\ud800",
        "::::",
        "-" * 400 + "1",
        "(" * 240 + "1" + ")" * 240,
        "-" * 1_000_000 + "1",
        "(" * 1_000_000,
        "9" * 1_000_000,
        "1," * 100_000,
    ],
)
def test_only_integers_slices_and_dots_are_read(index: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_index(index)
    assert caught.value.code == "target.syntax"
    assert len(str(caught.value)) < 300
    assert code(f"OUTPUT[{index}]") == "target.syntax"


def test_a_hostile_index_runs_nothing() -> None:
    seen = set(sys.modules)
    with pytest.raises(UsageError):
        parse_index("__import__('antigravity')")
    assert "antigravity" not in set(sys.modules) - seen


@pytest.mark.parametrize(
    "index", ["2", "-3,0", ":,4", ":,:,0", "...,...", ":,99999999999999999999999", "::0", "0:0", ":,2:2"]
)
def test_an_index_that_does_not_fit_is_out_of_range(index: str) -> None:
    assert code(f"OUTPUT[{index}]") == "target.out_of_range"


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_any_text_is_a_target_or_a_usage_error(text: str) -> None:
    for target in (text, f"contrast:{text}", f"OUTPUT[{text}]", f"contrast:{text},1"):
        try:
            found = resolve(target, SCORES, LABELS)
        except UsageError as problem:
            assert problem.code.startswith("target.")
        else:
            assert found.weights.shape == SCORES.shape
