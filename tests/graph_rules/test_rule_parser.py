"""Rules as text: what is written is read back, what can't be is refused in one line that helps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph_rules import attention as a
from graph_rules import rules as r
from graph_rules.composites import COMPOSITES, CompositeParams, composite, deep_taylor, parse_rule
from graph_rules.rule import Rule
from graph_rules.rule_format import RULES
from graph_rules.tables import describe

EPSILON = st.floats(0, 1e6)
BIAS = st.booleans()
BOUND = st.floats(-1e3, 1e3)


def alpha_beta(beta: float, epsilon: float, zero_bias: bool) -> r.AlphaBeta:
    return r.AlphaBeta(beta + 1, beta, epsilon, zero_bias)


def box(bounds: list[tuple[float, float]], epsilon: float, per_channel: bool) -> r.ZBox:
    low, high = (tuple(pick(pair) for pair in bounds) for pick in (min, max))
    return r.ZBox(low, high, epsilon) if per_channel else r.ZBox(low[0], high[0], epsilon)


EVERY: dict[type, st.SearchStrategy[Any]] = {
    r.Epsilon: st.builds(r.Epsilon, EPSILON, BIAS),
    r.AlphaBeta: st.builds(alpha_beta, st.floats(0, 100), EPSILON, BIAS),
    r.Gamma: st.builds(r.Gamma, st.floats(0, 1e3), EPSILON, BIAS),
    r.Mixing: st.builds(r.Mixing, st.floats(0, 1), EPSILON, BIAS),
    r.ZBox: st.builds(box, st.lists(st.tuples(BOUND, BOUND), min_size=1, max_size=4), EPSILON, BIAS),
    r.WSquare: st.builds(r.WSquare, EPSILON, BIAS),
    r.Flat: st.builds(r.Flat, EPSILON),
    **{rule: st.just(rule()) for rule in (r.Gradient, r.Pass, r.Block, r.Shared, r.SignalTakesAll, r.GuidedReLU,
                                          r.DeconvNetReLU, a.WinnerTakeAll)},
    **{rule: st.builds(rule, EPSILON) for rule in (a.Bilinear, a.ValuesTakeAll, a.Softmax, a.Homogeneous)},
    a.Normalisation: st.builds(a.Normalisation, EPSILON, BIAS),
}  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(*EVERY.values()))
def test_every_rule_is_read_back_as_it_was_written(rule: Rule) -> None:
    assert parse_rule(str(rule)) == rule


def test_every_rule_there_is_can_be_written() -> None:
    """A rule added to the package without a text form fails here."""
    defined = {
        value
        for module in (r, a)
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and hasattr(value, "backward")
    }
    assert defined == set(EVERY)
    assert {form.rule for form in RULES.values()} == defined
    assert {name for name, form in RULES.items() if not form.fixed} == {rule.name for rule in defined}
    assert all(rule.kinds for rule in defined)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("gamma:0.5,mixing", r.Mixing(0.5)),
        ("gamma:mixing,gamma=0.5", r.Mixing(0.5)),
        ("gamma:0.5,epsilon=1e-3,zero_bias", r.Gamma(0.5, 1e-3, True)),
        ("gamma:0.5,zero_bias=false", r.Gamma(0.5)),
        ("mixing", r.Mixing(0.25)),
        ("zplus:epsilon=0.1", r.AlphaBeta(1.0, 0.0, 0.1)),
        ("alpha-beta:alpha=3,beta=2", r.AlphaBeta(3.0, 2.0)),
        ("z-box:-2.1/-2/-1.8,2.2/2.4/2.6", r.ZBox((-2.1, -2.0, -1.8), (2.2, 2.4, 2.6))),
        ("z-box:low=0,high=1", r.ZBox(0.0, 1.0)),
        ("bilinear:0.1", a.Bilinear(0.1)),
        ("normalisation:0.1,zero_bias", a.Normalisation(0.1, True)),
        ("values-take-all", a.ValuesTakeAll()),
        ("signal-takes-all", r.SignalTakesAll()),
        ("shared", r.Shared()),
    ],
)
def test_texts(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


def test_params_fill_what_a_text_leaves_open() -> None:
    params = CompositeParams(epsilon=0.3, gamma=0.7, zero_bias=True, stabilizer=1e-9, mixing=True)
    assert parse_rule("gamma", params) == r.Mixing(0.7, 1e-9, True)
    assert parse_rule("gamma:0.2,zero_bias=false", params) == r.Mixing(0.2, 1e-9, False)
    assert parse_rule("epsilon", params) == r.Epsilon(0.3, True)
    assert parse_rule("softmax", params) == a.Softmax(1e-9)
    assert composite("gamma", params).rules["convolution"] == r.Mixing(0.7, 1e-9, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gama:0.5", "did you mean gamma[:GAMMA,mixing,epsilon=1e-06,zero_bias]?"),
        ("alphabeta:2,1", "did you mean alpha-beta[:ALPHA,BETA,epsilon=1e-06,zero_bias]?"),
        ("zbox", "did you mean z-box[:LOW,HIGH,epsilon=1e-06]?"),
        ("Epsilon", "did you mean epsilon["),
        ("gamma:-0.5", "gamma must be at least 0, not -0.5"),
        ("gamma:1.5,mixing", "from 0 to 1, not 1.5"),
        ("alpha-beta:3,1", "alpha - beta must be 1"),
        ("alpha-beta:0.5,-0.5", "both at least 0"),
        ("epsilon:-1", "epsilon must be at least 0, not -1"),
        ("flat:epsilon=-1", "epsilon must be at least 0, not -1"),
        ("softmax:-1", "epsilon must be at least 0, not -1"),
        ("epsilon:inf", "not a finite number"),
        ("epsilon:nan", "not a finite number"),
        ("epsilon:1e", "'1e' is not a number"),
        ("epsilon:", "'' is not a number"),
        ("epsilon:1/2", "not one number"),
        ("gamma:0.5,mixign", "has no parameter 'mixign' (did you mean mixing?); it is written gamma["),
        ("gamma:0.5,gamma=0.2", "gives gamma twice"),
        ("gamma:0.5,0.2", "wrong number of parameters; it is written gamma["),
        ("gamma:zero_bias=yes", "neither true nor false"),
        ("zplus:alpha=2", "has no parameter 'alpha'"),
        ("pass:1", "wrong number of parameters; it is written pass"),
        ("z-box:1", "wrong number of parameters"),
        ("z-box:0/0,1/1/1", "different numbers of channels"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_rule(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("zero_bias", [False, True])
def test_a_described_table_is_read_back(name: str, zero_bias: bool) -> None:
    table = composite(
        name, CompositeParams(0.3, 0.7, 3.0, 2.0, -1.5, (0.5, 0.25), zero_bias, 1e-8), {"/a/*": "gamma:0.1"}
    )
    assert {key: parse_rule(text) for key, text in describe(table).items()} == {**table.rules, **table.overrides}


def test_deep_taylor_is_described_too() -> None:
    table = deep_taylor(CompositeParams(low=(0.0,), high=(1.0,)))
    assert {key: parse_rule(text) for key, text in describe(table).items()} == table.rules
