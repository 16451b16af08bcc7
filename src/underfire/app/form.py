"""What somebody wants of a photo, as the page's form sends it; checked before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from underfire.core import LEVELS, UnderfireError

ATTACKS = {
    "adv2": "prediction and explanation (ADV²)",
    "pgd": "prediction alone (PGD)",
    "adv2-stadv": "both, by bending the picture",
    "stadv": "prediction alone, by bending the picture",
}
"""Attacks of the form -> what they go for."""
PRESETS = {"fast": "fast", "thorough": "thorough: some three times as long", "paper": "as published: minutes"}
FORMATS = {
    "png": "PNG: nothing is lost",
    "jpeg": "JPEG, quality 90",
    "webp": "WebP, quality 80",
    "same": "as the photo",
}
WORDS = {"photo": "the photo", "eps": "ε", "interpreter": "the explanation", "target": "the wanted class"}


class Form(BaseModel):
    """The fields of the form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    photo: str = Field(max_length=100)
    """Key of the photo in the album."""
    classifier: str = Field(max_length=300)
    interpreter: str = Field(max_length=100)
    """The explanation that is attacked; of an attack on the prediction alone the one that looks on."""
    others: tuple[str, ...] = Field(default=(), max_length=20)
    """Explanations that look at the forged file too."""
    target: str = Field(default="random", min_length=1, max_length=300)
    attack: Literal["adv2", "pgd", "adv2-stadv", "stadv"] = "adv2"
    preset: Literal["fast", "thorough", "paper"] = "fast"
    eps: int = Field(default=8, ge=1, le=64)
    save_as: Literal["png", "jpeg", "webp", "same"] = "png"

    @classmethod
    def parse(cls, fields: Any) -> Form:
        """Read the fields of the form.

        Raises:
            UnderfireError: something is missing or makes no sense.
        """
        if not isinstance(fields, Mapping):
            raise UnderfireError("The page sent no form: load it again.")
        try:
            return cls.model_validate(dict(fields))
        except ValidationError as e:
            first = e.errors()[0]
            where = str(first["loc"][0]) if first["loc"] else "form"
            raise UnderfireError(f"{WORDS.get(where, where).capitalize()}: {first['msg'].lower()}.") from e

    @property
    def budget(self) -> str:
        """ε as it is written."""
        return f"{self.eps}/{LEVELS}"
