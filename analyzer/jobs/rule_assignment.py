"""Which rule each node of a model gets, as listed by ``onnxplain inspect --rules``.

Belongs here: the list as data. Not here: printing (``cli``), assigning rules (``graph_rules.tables``).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from analyzer.engines.traced_score import TracedScore
    from analyzer.model import Model

Array = NDArray[Any]
#: How to give a rule to a node for which the table has none.
REMEDY = "give one by name, operator or kind, as in --rule {0}=epsilon or rules={{'{0}': 'epsilon'}}"


@dataclass(frozen=True)
class RuleRow:
    """The part of a trace that an ONNX node became, and its rule.

    Attributes
    ----------
    node, operator
        The ONNX node's name and operator.
    kind
        Its kind in rule tables, a key of ``graph_rules.kinds.KINDS``.
    depth, deepest
        Its relative depth between the input, 0, and the explained output, 1; the two differ for a node that is traced as
        several, such as a recurrent layer.
    count
        Number of operators of the trace that the row stands for.
    rule
        The rule's text, as it can be given; None where the table has none.
    key
        The key of the table that gave it.
    override
        Whether that key is one of the given rules, not of the composite.
    """

    node: str
    operator: str
    kind: str
    depth: float
    deepest: float
    count: int
    rule: str | None
    key: str | None
    override: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)


def rules(
    model: Model | str | os.PathLike[str],
    x: Array | Mapping[str, Array] | None = None,
    composite: str | None = None,
    rules: Mapping[str, str] | str | os.PathLike[str] | None = None,
    *,
    output: str | None = None,
    score: str = "logit",
    **settings: Any,
) -> list[RuleRow]:
    """Which rule each node gets between the input and the explained output, in the order of execution.

    Parameters
    ----------
    x
        As in :meth:`Model.explain`; None tries the model on random values that fit its inputs.
    composite, rules, settings
        Parameters of ``lrp``; ``rules`` may be a TOML file.
    output, score
        Which output is explained, and whether as logit or probability.

    Returns
    -------
    list of RuleRow
        Nodes without a rule are listed with None.

    Raises
    ------
    UsageError
        ``params.*``, ``config.rules``: unknown composite or rule, a key that fits no node.
    InputError
        ``data.*`` where x doesn't fit; ``inspect.no_trial`` where None was given and no trial input fits.
    UnsupportedError
        The model can't be traced.
    """
    from analyzer.methods import registry
    from analyzer.methods.relevance import lrp
    from analyzer.model import Model, load

    given = settings | ({} if composite is None else {"composite": composite})
    params = registry.get("lrp").check(given | ({} if rules is None else {"rules": rules}))
    model = model if isinstance(model, Model) else load(model)
    traced = _traced(model, x, output, score)
    listing = lrp.rules_of(model, traced, params)
    joined: dict[tuple[Any, ...], RuleRow] = {}
    for got in listing.values():
        info, rule = got.info, None if got.rule is None else str(got.rule)
        row = RuleRow(info.name, info.operator, info.kind, info.depth, info.depth, 1, rule, got.key, got.override)
        same = (row.node, row.operator, row.kind, row.rule, row.key)
        before = joined.get(same)
        joined[same] = row if before is None else dataclasses.replace(
            before, depth=min(before.depth, row.depth), deepest=max(before.deepest, row.depth), count=before.count + 1
        )  # fmt: skip
    return list(joined.values())


def unused(rows: Sequence[RuleRow], overrides: Iterable[str]) -> list[str]:
    """Keys of overrides that no row got its rule from: a more specific one came before, or the model lacks the kind."""
    used = {row.key for row in rows if row.override}
    return [key for key in overrides if key not in used]


def _traced(model: Model, x: Any, output: str | None, score: str) -> TracedScore:
    from analyzer.jobs.trials import running_feed
    from analyzer.targets.resolve import scored_value

    feed = running_feed(model) if x is None else model.feed(x)
    size = model.part_size(feed)
    feed = feed if size is None else {name: value[:size] for name, value in feed.items()}
    return model.backends.tracer.score(feed, scored_value(model, output, score).value)
