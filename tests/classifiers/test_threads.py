"""One classifier in several threads: each has its own count of passes and its own features."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

import underfire
from support.toys import SIZE, ToyNet, pictures, seeded, toy
from underfire import wrap


def test_four_threads_have_the_numbers_that_one_has() -> None:
    def attacked(seed: int) -> Any:
        return underfire.attack(classifier, "cam", pictures(2, seed).float(), steps=8, seed=seed)

    classifier = wrap(seeded(ToyNet()).float(), input_size=SIZE, name="mine")
    alone = [attacked(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(attacked, range(4)))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=0, atol=0)
        assert [r.passes for r in one.records] == [r.passes for r in other.records]
        assert [r.judge_passes for r in one.records] == [r.judge_passes for r in other.records]


def test_a_count_does_not_see_what_another_thread_spends() -> None:
    classifier = toy()
    x = pictures(2).requires_grad_()
    with classifier.meter.counting(2) as mine:
        z = classifier.logits(x).sum()

        def other() -> None:
            with classifier.meter.counting(5) as theirs:
                classifier.logits(pictures(5))
                torch.autograd.grad(z, x)  # a backward belongs to the count of its forward
            assert theirs.passes.tolist() == [1] * 5
            done.append(True)

        done: list[bool] = []
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert done
    assert mine.passes.tolist() == [3, 3]


def test_features_are_those_of_the_threads_own_pictures() -> None:
    class Slow(ToyNet):
        """Lets another thread's forward in between its own last maps and its end."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = super().forward(x)
            if len(x) == 3:
                thread = threading.Thread(target=lambda: classifier.logits(pictures(2, 7)))
                thread.start()
                thread.join()
            return z

    module: nn.Module = seeded(Slow())
    classifier = wrap(module, input_size=SIZE)
    assert len(classifier.features(pictures(3))) == 3
