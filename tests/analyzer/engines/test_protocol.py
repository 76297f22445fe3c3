"""What makes two questions to an engine the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analyzer.engines.protocol import GRADIENT, GUIDED_BACKPROP, SweepSpec, TableSpec


def table(**settings: Any) -> TableSpec:
    return TableSpec.of("lrp", settings, lambda: GRADIENT.build())


def test_settings_make_a_table() -> None:
    low = np.array([1.0, 2.0], np.float32)
    assert table(low=low, rules=[("a", "b")]) == table(rules=(("a", "b"),), low=low.copy())
    assert hash(table(low=low)) == hash(table(low=low.copy()))
    different = [
        table(low=low), table(low=low + 1), table(low=low.astype(np.float64)), table(low=low[None]), table(low=[1.0, 2.0]),
        table(low=1.0), table(low=1), table(low=True), table(low=None), table(), table(rules=[("a", "b"), ("c", "d")]),
        table(rules=[("c", "d"), ("a", "b")]),
    ]  # fmt: skip
    assert len({each.settings for each in different}) == len(different)


@pytest.mark.parametrize(
    "other",
    [
        SweepSpec(GUIDED_BACKPROP), SweepSpec(GRADIENT, "logit"), SweepSpec(GRADIENT, "one", "auto"),
        SweepSpec(GRADIENT, "one", "None"), SweepSpec(GRADIENT, embedded=True), SweepSpec(GRADIENT, difference=True),
    ],
)  # fmt: skip
def test_every_part_of_a_question_is_in_its_text(other: SweepSpec) -> None:
    assert other.text() != SweepSpec(GRADIENT).text()
    assert "\n" not in other.text()


def test_named_tables_are_those_of_graph_rules() -> None:
    from graph_rules import composites

    assert GRADIENT.build() is composites.GRADIENT
    assert GUIDED_BACKPROP.build() is composites.GUIDED_BACKPROP
