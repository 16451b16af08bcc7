"""The settings that concern files, checked before anything is run: what is forged, how it is saved, what it meets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from underfire.core import Cell, UnderfireError
from underfire.doors.platforms import habits
from underfire.images.saving import check_format
from underfire.plan.settings import Settings

FILE, INPUT = "file", "input"
"""Words of --at."""


def check_files(settings: Settings, cells: Sequence[Cell]) -> Iterator[str]:
    """Check what is said about files, and yield sentences about what will come of it.

    Args:
        settings: what the user asks for.
        cells: the attacks.

    Raises:
        UnderfireError: an unknown format or habit, settings of files where inputs are forged, or an attack that cannot
            forge files.
    """
    if settings.at == INPUT:
        for flag in ("save_as", "through"):
            if getattr(settings, flag) is not None:
                raise UnderfireError(
                    f"--{flag.replace('_', '-')} {getattr(settings, flag)} is about files, but --at input forges the "
                    "classifier's input: give --at file."
                )
        return
    name, quality = check_format(settings.save_as or "png")
    habits(settings.through or "")
    for cell in cells:
        refuse_unable(cell)
    if settings.eps == 1 and name in ("jpeg", "webp"):
        yield (
            f"A budget of 1 level is less than {name} {quality} itself changes: the encoder will undo most of it. Give "
            "a larger --eps, or --save-as png."
        )


def refuse_unable(cell: Cell) -> None:
    """Raise UnderfireError for an attack that cannot search in files."""
    if not getattr(cell.attack, "forges_files", False):
        raise UnderfireError(
            f"Attack '{cell.attack.name}' knows inputs only (it does not say 'forges_files'): give --at input."
        )
