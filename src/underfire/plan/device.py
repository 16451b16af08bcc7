"""The devices: where the workers compute, and where this process computes."""

from __future__ import annotations

from underfire import core
from underfire.core import UnderfireError
from underfire.plan.settings import Settings


def devices(settings: Settings) -> tuple[str, str]:
    """Choose where the workers compute, and where this process does: the driver of a cluster may have no GPU.

    Raises:
        UnderfireError: there is no such device.
    """
    try:
        device = choose_device(settings.device)
    except UnderfireError:
        if settings.executor == "local" or settings.device.partition(":")[0] != "cuda":
            raise
        return settings.device, "cpu"
    return device, device


def choose_device(word: str) -> str:
    """Check that this machine has a device; 'auto' means the first of cuda, mps and cpu that it has.

    Raises:
        UnderfireError: an unknown device, or one that this machine does not have.
    """
    import torch  # noqa: PLC0415 (a plan file can be read without it)

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if word == "auto":
        return next(name for name, is_there in there.items() if is_there)
    kind = word.partition(":")[0]
    if kind not in there:
        raise core.unknown("device", word, there)
    if not there[kind]:
        raise UnderfireError(
            f"--device {word}: this machine has no such device that PyTorch can use; it has "
            f"{', '.join(name for name, is_there in there.items() if is_there)}."
        )
    return word
