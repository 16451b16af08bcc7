"""The objective of RTS, term by term."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from support.colours import SIZE, K, colours
from support.replicas import drawn, replicates, uniform
from underfire.train import objective as loss

Logits = Callable[[Tensor], Tensor]


@replicates(loss.area, drawn(lambda g: (uniform(g, 3, 8, 8),)), atol=1e-12)
def area(m: Tensor) -> list[float]:
    return [sum(map(sum, one)) / len(one) ** 2 for one in m.tolist()]


@replicates(loss.smoothness, drawn(lambda g: (uniform(g, 3, 8, 8),)), atol=1e-12)
def smoothness(m: Tensor) -> list[float]:
    found = []
    for one in m.tolist():
        n = len(one)
        across = [(one[i][j + 1] - one[i][j]) ** 2 for i in range(n) for j in range(n - 1)]
        down = [(one[i + 1][j] - one[i][j]) ** 2 for i in range(n - 1) for j in range(n)]
        found.append(sum(across) / len(across) + sum(down) / len(down))
    return found


@cache
def logits() -> Logits:
    classifier = colours()
    classifier.module.double()
    return classifier.to("cpu").logits


def some(g: torch.Generator) -> tuple[Any, ...]:
    x, behind = (uniform(g, 3, 3, SIZE, SIZE) * uniform(g, 3, 3, 1, 1) for _ in "ab")  # coloured, or nothing is seen
    lam = loss.ObjectiveWeights(tv=3.0, area=2.0, destroy=5.0, power=0.3)
    return logits(), x, torch.randint(K, (3,), generator=g), uniform(g, 3, 16, 16), behind, lam


@replicates(loss.objective, drawn(some), rtol=1e-4, examples=5)  # the logits are rounded to float32 on the way
def objective(
    of: Logits, x: Tensor, y: Tensor, m: Tensor, behind: Tensor, lam: loss.ObjectiveWeights
) -> dict[str, list[float]]:
    def probability(shown: Tensor, c: int) -> float:
        z = of(shown)[0].tolist()
        return math.exp(z[c]) / sum(math.exp(v) for v in z)

    terms: dict[str, list[float]] = {"keep": [], "destroy": []}
    for k, c in enumerate(y.tolist()):
        u = F.interpolate(m[k : k + 1, None], (SIZE, SIZE), mode="bilinear", align_corners=False)
        image, other = x[k : k + 1], behind[k : k + 1]
        terms["keep"].append(-math.log(probability(image * u + other * (1 - u), c)))
        terms["destroy"].append(5 * (probability(image * (1 - u) + other * u, c) + 1e-6) ** 0.3)
    return {**terms, "area": [2 * v for v in area(m)], "smoothness": [3 * v for v in smoothness(m)]}
