"""What every check is: its parameters as a policy gives them, and what it does with a model.

Belongs here: the base class. Not here: the checks (``checks``), what they may ask (``context``), the rest of a policy
(``policy``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from analyzer.gate.outcome import Outcome

#: A statistic of the inputs' values; see :meth:`analyzer.gate.context.GateContext.summary`.
Summary = Annotated[str, Field(pattern=r"^(mean|median|max|p[1-9][0-9]?)$")]
#: The share of inputs that may have no value where nothing else is said: what the others show might not hold of them.
MOST_LEFT_OUT = 0.2
#: Shares, from 0 to 1.
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: A file or folder that must be there, relative to the policy.
FilePath = Annotated[str, Field(json_schema_extra={"format": "path"})]


class Strict(BaseModel):
    """A section of a policy: unknown keys are refused, values aren't converted from text, nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Check(Strict):
    """One check: a subclass has a ``kind``, its parameters as fields, and :meth:`run`.

    The class docstring's first line is its summary.
    """

    needs: ClassVar[tuple[Literal["reference", "masks", "labels"], ...]] = ()
    """What it needs of the policy; a policy without it is refused."""
    source: ClassVar[str] = ""
    """Paper and equation."""
    repeatable: ClassVar[bool] = True
    """Whether two runs with one seed find the same; false for times."""
    reads_others: ClassVar[bool] = False
    """Whether it reads what the other checks found, and so runs after them."""

    id: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
    """The check's name in reports, unlike any other's."""
    level: Literal["fail", "warn"] = "fail"
    """Whether failing blocks the deployment, or is only told."""

    def look(self, gate: Any) -> None:
        """Refuse values that can be seen to be wrong before any input runs.

        Raises
        ------
        UsageError
            ``config.gate``, naming check and key.
        """

    def run(self, gate: Any) -> Outcome:
        """Look at the model.

        Parameters
        ----------
        gate
            A :class:`~analyzer.gate.context.GateContext`, which itself knows checks as part of its policy.
        """
        raise NotImplementedError
