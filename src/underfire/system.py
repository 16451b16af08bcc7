"""The system under attack inside a worker: the process set up, the classifier and its interpreters built once."""

from __future__ import annotations

import ctypes
import functools
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from underfire import registry
from underfire.core import Classifier, Interpreter, Job


def prepare(threads: int) -> None:
    """Set up this process: exactly ``threads`` CPU threads, and an allocator that keeps its pages."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    _prepare_once()


@functools.cache
def _prepare_once() -> None:
    """Deterministic kernels, and an allocator that keeps its pages.

    glibc gives large blocks back to the system after each use; every step of a search then pays for the same pages
    again (measured: 15 % of EfficientNet-Lite0's forward and backward).
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            m_mmap_threshold, m_trim_threshold = -3, -1  # from glibc's malloc.h
            libc.mallopt(m_mmap_threshold, 1 << 30)
            libc.mallopt(m_trim_threshold, (1 << 31) - 1)


@dataclass
class System:
    """The classifier and the interpreters of one audit, built."""

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    device: str = "cpu"

    @classmethod
    def of_job(cls, job: Job) -> System:
        """Built once a process."""
        return _system(json.dumps(job.interpreter_options, sort_keys=True, default=str), *_identity(job))


def _identity(job: Job) -> tuple[Any, ...]:
    own = [path for path in (job.options.weights, job.options.classes) if path is not None]
    stamps = tuple(Path(path).stat().st_mtime_ns for path in own if Path(path).is_file())  # same name, other weights
    return job.classifier, job.options, job.interpreters, job.device, stamps


@functools.lru_cache(maxsize=2)
def _system(
    interpreter_options: str,
    name: str,
    options: Any,
    interpreters: tuple[str, ...],
    device: str,
    _stamps: tuple[int, ...],
) -> System:
    classifier = registry.build_classifier(name, options, device)
    chosen = json.loads(interpreter_options)
    built = {i: registry.build_interpreter(i, classifier, chosen.get(i, {})) for i in interpreters}
    return System(classifier, built, device)


def seconds_a_pass(classifier: Classifier, n: int, device: str, threads: int) -> float:
    """Wall time of one forward-equivalent, from a few steps on random pixels.

    Args:
        classifier: what is timed.
        n: images in a batch.
        device: where it runs.
        threads: CPU threads.
    """
    prepare(threads)
    size = classifier.preprocess.input_size
    x = torch.rand(n, 3, size, size).to(device).requires_grad_()
    steps = 0
    torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)
    start = time.perf_counter()
    while steps < 2 or time.perf_counter() - start < 1:
        torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)[0].cpu()
        steps += 1
    return (time.perf_counter() - start) / (3 * n * steps)
