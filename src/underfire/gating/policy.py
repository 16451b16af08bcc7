"""The policy: rules that select cells of an audit and bound what was measured there. The models of gate.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from underfire.gating.measures import MEASURES, SELECT, Measure

Bound: TypeAlias = Literal["max", "min", "increase", "decrease"]
BOUNDS: tuple[Bound, ...] = ("max", "min", "increase", "decrease")
TO_BASELINE = ("increase", "decrease")
"""Bounds of the difference to the baseline, on the same photos."""
UPPER = ("max", "increase")
"""Bounds that a value must not exceed; from the others it must not fall short."""
Name: TypeAlias = Literal["forged", "success", "untouched", "alarm", "map_l1", "map_iou", "passes"]
Value: TypeAlias = str | int | tuple[str | int, ...] | None


class Where(BaseModel):
    """The cells that a rule is about; what is not said selects all.

    Example:
        ``{interpreter: cam, attack: [adv2, adv2-stadv]}``
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classifier: Value = Field(default=None, description="Name of the classifier attacked.")
    interpreter: Value = Field(default=None, description="The judge's interpreter.")
    attack: Value = Field(default=None, description="Name of the attack.")
    against: Value = Field(default=None, description="The interpreter that the attack was made against.")
    preset: Value = Field(default=None, description="How much the attacker spent.")
    eps: Value = Field(default=None, description="L∞ budget in levels of 255.")
    at: Value = Field(default=None, description="Where the picture was judged; ignored where records do not say it.")
    defense: Value = Field(default=None, description="Kind of the alarm; 'none' without one.")

    @property
    def chosen(self) -> Iterator[tuple[str, tuple[str | int, ...]]]:
        """The columns that are chosen by, each with the values that fit."""
        for column in SELECT:
            value = getattr(self, column)
            if value is not None:
                yield column, value if isinstance(value, tuple) else (value,)


class Rule(BaseModel):
    """A measure, the cells where it is looked at, and its bounds.

    Example:
        ``{measure: forged, where: {interpreter: cam}, max: 0.1}``
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Name = Field(description="The rate or mean that is bounded.")
    name: str | None = Field(default=None, min_length=1, max_length=100, description="A name of your own.")
    where: Where = Field(default=Where(), description="The cells; all of them by default.")
    max: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = Field(
        default=None, description="The whole 95 % interval must lie at or below it."
    )
    min: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = Field(
        default=None, description="The whole 95 % interval must lie at or above it."
    )
    increase: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = Field(
        default=None, description="It may be so much larger than in the baseline, on the same photos."
    )
    decrease: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = Field(
        default=None, description="It may be so much smaller than in the baseline, on the same photos."
    )

    @field_validator(*BOUNDS, mode="before")
    @classmethod
    def _no_truth(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @model_validator(mode="after")
    def _possible(self) -> Rule:
        if not self.bounds:
            raise ValueError(f"a rule bounds something: give it one of {', '.join(BOUNDS)}")
        for bound, limit in self.bounds.items():
            if reason := _impossible(MEASURES[self.measure], bound, limit):
                raise ValueError(f"{self.measure} {bound} {limit:g}: {reason}")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"no {self.measure} is at least {self.min:g} and at most {self.max:g}")
        return self

    @property
    def bounds(self) -> dict[Bound, float]:
        """The bounds that it has."""
        return {bound: limit for bound in BOUNDS if (limit := getattr(self, bound)) is not None}

    @property
    def title(self) -> str:
        """Its name, or what it says."""
        return self.name or f"{self.measure} " + ", ".join(f"{bound} {limit:g}" for bound, limit in self.bounds.items())


def _impossible(measure: Measure, bound: Bound, limit: float) -> str | None:
    """Say why no audit could hold a bound, or why none could break it; None where it is possible."""
    most = measure.most
    percent = f" Write {limit / 100:g} for {limit:g} %." if measure.kind == "rate" and 1 < limit <= 100 else ""
    if limit < 0 or (most is not None and limit > most):
        return f"it lies between 0 and {most:g}.{percent}" if most is not None else "it is not negative"
    if bound in TO_BASELINE:
        allowed = limit > 0 and (most is None or limit < most)
        return None if allowed else "give a small tolerance such as 0.05; photos are never enough to show no difference"
    if limit == 0:
        never = "no number of photos can show that it is 0; give a small rate such as 0.01" if bound == "max" else None
        return never or "every audit is at or above 0, so this rule can never fail"
    if limit == most:
        never = (
            f"no number of photos can show that it is {most:g}; give a rate such as 0.99" if bound == "min" else None
        )
        return never or f"every audit is at or below {most:g}, so this rule can never fail"
    return None


class Policy(BaseModel):
    """The content of a gate.yaml.

    Example:
        ``Policy(rules=(Rule(measure="forged", max=0.1),))``
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...] = Field(min_length=1, description="All of them must hold.")
    errors: int = Field(default=0, ge=0, strict=True, description="Photos without a result that a cell may have.")


@dataclass(frozen=True)
class PolicyFile:
    """A policy, and where it stands.

    Args:
        policy: the rules.
        path: its file, as the user wrote it; empty for a policy without one.
        lines: the line of each rule, from 1.
    """

    policy: Policy
    path: str = ""
    lines: tuple[int, ...] = ()

    def line(self, rule: int) -> int:
        """Return the line of a rule; 1 where there is no file."""
        return self.lines[rule] if rule < len(self.lines) else 1


def of_mapping(values: Mapping[str, Any]) -> Policy:
    """Make a policy from plain values; raises pydantic's ValidationError."""
    return Policy.model_validate(values)
