"""How many photos each audit of a study has: of the paper's evaluation, of explanations, and of a first look."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, le=100_000)] | dict[str, Annotated[int, Field(ge=0, le=100_000)]]


class Counts(BaseModel):
    """Photos of each audit, by experiment; 0 leaves it out.

    A count is one number, or a number for each interpreter; 'default' stands for the interpreters that are not named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    main: Count = Field(default_factory=lambda: {"default": 24, "mask": 12})
    bends: Count = Field(default_factory=lambda: {"default": 8, "mask": 2})
    random: Count = Field(default_factory=lambda: {"default": 8, "mask": 4})
    budget: Count = 12
    control: Count = Field(default_factory=lambda: {"default": 12, "mask": 4})
    rerun: Count = Field(default_factory=lambda: {"default": 8, "mask": 2})
    sanity: Annotated[int, Field(ge=0, le=100_000)] = 12
    noise: Count = 0


QUICK = Counts(
    main={"default": 2, "mask": 1},
    bends={"default": 1, "mask": 0},
    random={"default": 1, "mask": 0},
    budget=1,
    control={"default": 1, "mask": 0},
    rerun=0,
    sanity=1,
)
"""Counts for a first look: two photos where the attacks are compared, one where it is seen that all else works."""
_TWO_BUT_MASK: Count = {"default": 2, "mask": 0}
LATER: dict[str, tuple[Count, ...]] = {
    "control": (Counts().control, _TWO_BUT_MASK),
    "rerun": (Counts().rerun, 0),
    "sanity": (Counts().sanity, 2),
    "noise": (Counts().noise,),
}
"""Counts that earlier versions did not have, and what they first were: studies with these keep their folders' names."""


DEAR = ("mask", "occlusion", "rise", "lime", "kernelshap")
"""Interpreters whose map costs hundreds of passes."""
_24: Count = {"default": 24, "mask": 12}
EXPLANATIONS = Counts(
    main=_24,
    bends=0,
    random=0,
    budget={"default": 12, **dict.fromkeys(DEAR, 4)},
    noise=_24,
)
"""Counts of a study of explanations: a yardstick of an audit's own takes 19 photos."""
_2: Count = {"default": 2, **dict.fromkeys(DEAR, 0), "rise": 1}
_1: Count = {"default": 0, "cam": 1, "gradcam": 1, "grad": 1}
QUICK_EXPLANATIONS = Counts(main=_2, bends=0, random=0, budget=_1, noise=_2)
"""The same for a first look."""
