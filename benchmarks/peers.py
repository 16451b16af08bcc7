"""PGD of the attack libraries and ours, in one run: every tool attacks the same batch of the same network, in turn.

    pip install --target PEERS torchattacks foolbox adversarial-robustness-toolbox
    python benchmarks/peers.py --network resnet50 [--peers PEERS] [--batch 8] [--steps 8] [--rounds 5] [--device cpu]

All do the same: targeted, L∞ 8/255, step 1/255, no random start, inputs in [0, 1], normalisation in the network, frozen
weights. Each peer runs as it comes and with the channels last. Ratios are to a bare loop in float32, round by round, so
the machine's mood cancels; medians. Appends to results/peers.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import underfire
from underfire.attacks.pgd import pgd
from underfire.core import Goal, Victim
from underfire.core.precision import PRECISIONS, searching
from underfire.executors.process import prepare

RESULT = Path(__file__).parent / "results" / "peers.csv"
COLUMNS = ("network", "device", "batch", "steps", "threads", "tool", "images_a_second", "over_bare", "note")
EPS, STEP = 8 / 255, 1 / 255
LAST = torch.channels_last
Run = Callable[[], Any]


class Normalised(nn.Module):
    """A network with its normalisation inside, as the peers want it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of images in [0, 1]."""
        out: Tensor = self.net((x - 0.5) / 0.5)
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet50", help="a name of timm's; its weights are drawn")
    parser.add_argument("--peers", type=Path, help="folder with the peers; by default they are installed")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=("wall", "process"), default="wall", help="process: on a machine that is busy"
    )
    parser.add_argument("--only", nargs="*", help="tools whose names begin with one of these, beside the bare loop")
    parser.add_argument("--note", default="")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.peers:
        sys.path.append(str(given.peers))
    warnings.filterwarnings("ignore")
    prepare(given.threads)
    torch.manual_seed(0)
    net = timm.create_model(given.network, pretrained=False).eval().to(given.device)
    x = (torch.rand(given.batch, 3, *net.pretrained_cfg["input_size"][1:]) * 255).round().to(given.device) / 255
    y = torch.randint(0, 1000, (given.batch,)).to(given.device)
    runs = {name: run for name, run in tools(net, x, y, given.steps).items() if wanted(name, given.only)}
    report(given, measured(runs, given))


def wanted(name: str, only: list[str] | None) -> bool:
    return not only or name == "bare fp32" or any(name.startswith(word) for word in only)


def tools(net: nn.Module, x: Tensor, y: Tensor, steps: int) -> dict[str, Run]:
    """Name -> one whole attack; a peer that is not there is left out, and this is said."""
    for p in net.parameters():
        p.requires_grad_(False)
    models = {False: Normalised(net).eval(), True: Normalised(copy.deepcopy(net)).eval().to(memory_format=LAST)}
    runs: dict[str, Run] = {}
    for half in (False, True):
        for last, model in models.items():
            runs[f"bare {'bf16' if half else 'fp32'}{'-last' if last else ''}"] = bare(model, x, y, steps, half, last)
    for name, make in (("torchattacks", torchattacks), ("foolbox", foolbox), ("ART", art)):
        for last, model in models.items():
            with contextlib.suppress(ImportError):
                runs[name + (" last" if last else "")] = make(model, laid(x, last), y, steps)
        if name not in runs:
            print(f"{name} is not installed")
    own = underfire.wrap(copy.deepcopy(net), input_size=(x.shape[2], x.shape[3]), mean=0.5, std=0.5).to(x.device)
    return runs | {f"underfire {word}": ours(own, x, y, steps, word) for word in PRECISIONS}


def laid(x: Tensor, last: bool) -> Tensor:
    return x.clone(memory_format=LAST if last else torch.contiguous_format)


def bare(model: nn.Module, x: Tensor, y: Tensor, steps: int, half: bool, last: bool) -> Run:
    """The plainest loop that does the same; in bfloat16 as a plain autocast has it."""

    def run() -> None:
        z = laid(x, last)
        for _ in range(steps):
            z.requires_grad_()
            with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
                loss = model(z)
            (g,) = torch.autograd.grad(F.cross_entropy(loss.float(), y, reduction="sum"), z)
            with torch.no_grad():
                z = (x + (z - STEP * g.sign() - x).clamp(-EPS, EPS)).clamp(0, 1)

    return run


def torchattacks(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Run:
    import torchattacks as peer  # noqa: PLC0415

    attack = peer.PGD(model, eps=EPS, alpha=STEP, steps=steps, random_start=False)
    attack.set_mode_targeted_by_label(quiet=True)
    return lambda: attack(x, y)


def foolbox(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Run:
    import foolbox as peer  # noqa: PLC0415

    victim = peer.PyTorchModel(model, bounds=(0, 1), device=x.device)
    attack = peer.attacks.LinfPGD(abs_stepsize=STEP, steps=steps, random_start=False)
    return lambda: attack(victim, x, peer.criteria.TargetedMisclassification(y), epsilons=EPS)


def art(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Run:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch  # noqa: PLC0415
    from art.estimators.classification import PyTorchClassifier  # noqa: PLC0415

    victim = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=1000,
        clip_values=(0, 1),
        device_type="cpu" if x.device.type == "cpu" else "gpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        victim,
        norm=np.inf,
        eps=EPS,
        eps_step=STEP,
        max_iter=steps,
        targeted=True,
        num_random_init=0,
        batch_size=len(x),
        verbose=False,
    )
    pixels, wanted_class = x.cpu().numpy(), np.eye(1000)[y.cpu().numpy()]
    return lambda: attack.generate(pixels, wanted_class)


def ours(classifier: underfire.Classifier, x: Tensor, y: Tensor, steps: int, word: str) -> Run:
    attack = pgd.make("fast", None, 8, steps=steps, stop_confidence=None)

    def run() -> None:
        with searching(word), classifier.meter.counting(len(x)):
            attack.run(Victim(classifier), x, Goal(y, y), [0] * len(x))

    return run


def measured(runs: dict[str, Run], given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each tool in each round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    clock = time.perf_counter if given.clock == "wall" else lambda: time.process_time() / given.threads
    for count in range(given.rounds + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if given.device != "cpu":
                torch.cuda.synchronize()
            if count:
                times[name].append(clock() - start)
    return times


def report(given: argparse.Namespace, times: dict[str, list[float]]) -> None:
    fresh = not given.result.is_file()
    with given.result.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        for name, taken in times.items():
            rate = given.batch / statistics.median(taken)
            over = statistics.median(b / a for a, b in zip(taken, times["bare fp32"], strict=True))
            print(f"{given.network:24} {given.device:5} {name:20} {rate:9.2f} images/s {over:6.2f} of bare", flush=True)
            what = (given.network, given.device, given.batch, given.steps, given.threads)
            writer.writerow((*what, name, f"{rate:.3f}", f"{over:.3f}", given.note))


if __name__ == "__main__":
    main()
