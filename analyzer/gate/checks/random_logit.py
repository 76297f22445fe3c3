"""Class sensitivity: the map of another class is another map."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from analyzer.gate.check import MOST_LEFT_OUT, Check, Summary
from analyzer.gate.context import GateContext
from analyzer.gate.exhibits import exhibits
from analyzer.gate.outcome import Outcome


class RandomLogitCheck(Check):
    """Explaining another class gives another map."""

    source = "Sixt, Granz, Landgraf 2020, When explanations lie: why many modified BP attributions fail, sec. 4"
    kind: Literal["random_logit"] = "random_logit"
    max_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.9
    """The most that the similarity with the map of another class, drawn at random, may be; classes may share evidence."""
    similar: Literal["spearman", "ssim"] = "spearman"
    """Rank correlation, or structural similarity of pictures."""
    stat: Summary = "mean"
    """Which statistic of the inputs' similarities is bounded."""

    def run(self, gate: GateContext) -> Outcome:
        """Similarities of the maps of two classes."""
        values, left_out = gate.evaluate("random-logit", similar=self.similar)
        shown = exhibits(
            gate, values, lambda at: f"the map of another class has a similarity of {values[at]:.3f} with it"
        )
        return Outcome(
            gate.summary("the similarity with another class's map", values, self.stat, self.max_similarity),
            values={"similarity": values}, left_out=left_out, most_left_out=MOST_LEFT_OUT, exhibits=shown,
        )  # fmt: skip
