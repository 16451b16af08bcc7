"""On a GPU: whether it agrees with the CPU, and how fast ADV² is on each interpreter beside the card's bare rate.

    python benchmarks/gpu.py [--device cuda] [--images 64] [agree] [rates]

agree: EfficientNet-Lite0 on the demo photos; for each interpreter the largest difference of the judge's maps on GPU and
CPU, and the share of the attacker's gradient whose signs agree. rates: F a second (method, section 4) of PGD and of
ADV² on each interpreter, in float32 and bfloat16, over a bare forward and backward's. Appends to results/gpu.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import underfire
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import FAILURES, Attack, Goal, Interpreter, Victim
from underfire.core.precision import searching
from underfire.executors.process import prepare
from underfire.images import pixels
from underfire.images.photos import Folder

RESULT = Path(__file__).parent / "results" / "gpu.csv"
NETWORKS = {
    "efficientnet-lite0": ("cam", "grad", "mask", "rts"),
    "timm:resnet50": ("cam", "grad", "mask"),
    "timm:vit_base_patch16_224": ("grad", "attention", "mask"),
}
WORDS = ("fp32", "bf16", "bf16-last")
Line = tuple[str, str, str, float, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["agree", "rates"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    prepare(torch.get_num_threads())
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else given.device
    fresh = not given.result.is_file()
    with given.result.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(("device", "network", "what", "precision", "value", "unit"))
        for part in given.parts:
            for line in agree(given) if part == "agree" else rates(given):
                print(*line, flush=True)
                writer.writerow((name, *line))
                file.flush()


def agree(given: argparse.Namespace) -> Iterator[Line]:
    here, there = (underfire.classifier(device=device) for device in ("cpu", given.device))
    folder = Folder("demo")
    photos = [pixels.load(folder.bytes(p.path), p.path, here.preprocess) for p in folder.photos(4)]
    x = torch.cat([pixels.to_tensor([levels]) for levels in photos])
    y = here.logits(x).topk(2).indices[:, 1].detach()
    for name in NETWORKS["efficientnet-lite0"]:
        one, other = (underfire.interpreter(name, classifier) for classifier in (here, there))
        a, b = one.explain(x, y), other.explain(x.to(given.device), y.to(given.device)).cpu()
        yield "efficientnet-lite0", f"largest difference of a map, {name}", "fp32", float((a - b).abs().max()), ""
        g, h = gradient(one, x, y, a), gradient(other, x.to(given.device), y.to(given.device), a.to(given.device)).cpu()
        same = float((g.abs() * (g.sign() == h.sign())).sum() / g.abs().sum())
        yield "efficientnet-lite0", f"agreement of the attacker's gradient, {name}", "fp32", same, "share"


def gradient(interpreter: Interpreter, x: Tensor, y: Tensor, m: Tensor) -> Tensor:
    surrogate = interpreter.surrogate(x, Goal(y, y, {interpreter.name: m.flip(0).to(x)}))
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(surrogate.terms(leaf).loss.sum(), leaf)[0]


def rates(given: argparse.Namespace) -> Iterator[Line]:
    for network in given.networks:
        classifier = underfire.classifier(network, device=given.device)
        shape = (given.images, *classifier.preprocess.shape)
        x = ((torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 255).round() / 255).to(given.device)
        y = torch.arange(given.images).to(given.device)
        for word in WORDS:
            yield network, "bare forward and backward", word, bare(classifier, x, y, word, given.steps), "F/s"
            attack = pgd.make("fast", None, 8, steps=given.steps, stop_confidence=None)
            for value, unit in rate(classifier, attack, (), x, Goal(y, y), word, given.steps):
                yield network, "pgd", word, value, unit
            for name in NETWORKS[network]:
                yield from against(network, classifier, name, x, y, word, given.steps)


def against(
    network: str, classifier: underfire.Classifier, name: str, x: Tensor, y: Tensor, word: str, steps: int
) -> Iterator[Line]:
    try:
        interpreter = underfire.interpreter(name, classifier)
        maps = {} if name == "mask" else {name: interpreter.explain(x, y)}
        more: dict[str, Any] = {"surrogate": {"record": 20}} if name == "mask" else {}
        attack = adv2.make("fast", name, 8, steps=steps, warmup=0, check=0, stop_confidence=None, **more)
        for value, unit in rate(classifier, attack, (interpreter,), x, Goal(y, y, maps), word, steps):
            yield network, f"adv2 on {name}", word, value, unit
    except FAILURES as e:
        print(f"{network}, {name}, {word}: {type(e).__name__}: {str(e)[:200]}", flush=True)


def rate(
    classifier: underfire.Classifier,
    attack: Attack,
    interpreters: tuple[Interpreter, ...],
    x: Tensor,
    goal: Goal,
    word: str,
    steps: int,
) -> Iterator[tuple[float, str]]:
    """F a second, and images a second at these steps."""

    def run() -> float:
        with searching(word), classifier.meter.counting(len(x)) as spent:
            attack.run(Victim(classifier, interpreters), x, goal, [0] * len(x))
        return float(spent.passes.sum())

    seconds, passes = timed(run, x.device)
    yield passes / seconds, "F/s"
    yield len(x) * steps / seconds, "image-steps/s"


def bare(classifier: underfire.Classifier, x: Tensor, y: Tensor, word: str, steps: int) -> float:
    def run() -> float:
        with searching(word):
            for _ in range(steps):
                leaf = x.clone().requires_grad_()
                loss = torch.nn.functional.cross_entropy(classifier.logits(leaf), y, reduction="sum")
                torch.autograd.grad(loss, leaf)
        return 3.0 * len(x) * steps

    seconds, passes = timed(run, x.device)
    return passes / seconds


def timed(run: Callable[[], float], device: torch.device) -> tuple[float, float]:
    """Seconds of the second run, and what it returns."""
    run()
    wait(device)
    start = time.perf_counter()
    passes = run()
    wait(device)
    return time.perf_counter() - start, passes


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
