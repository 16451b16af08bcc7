from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from underfire.core import Found, Goal, Images, Victim


@dataclass(frozen=True)
class Fgsm:
    """One step of ε levels on the prediction and the map."""

    name: ClassVar[str] = "fgsm"
    fools_interpreter: ClassVar[bool] = True
    eps: int
    lam: float = 10.0

    @classmethod
    def make(cls, preset: str, against: str | None, eps: int, **options: float) -> "Fgsm":
        return cls(eps, **options)

    def bound(self, step_passes: float) -> float:
        return step_passes

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        now = victim.interpreters[0].surrogate(x, goal).terms(x.requires_grad_())
        loss = torch.nn.functional.cross_entropy(now.logits, goal.labels, reduction="sum") + self.lam * now.loss.sum()
        x_hat = x.detach() - self.eps / 255 * torch.autograd.grad(loss, x)[0].sign()
        return Found(x_hat.clamp(0, 1), torch.ones(len(x), dtype=torch.int64))
