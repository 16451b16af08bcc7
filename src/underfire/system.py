"""The system under attack inside a worker: the process set up, the classifier and its interpreters built once."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from underfire import registry
from underfire.core import Classifier, Defense, Interpreter, Job


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
    alarm: Defense | None = None

    @classmethod
    def of_job(cls, job: Job) -> System:
        """Built once a process: audits of several lanes come to one worker in turns, and have one classifier."""
        chosen = _identity(job)
        built = {}
        for name in job.interpreters:
            options = job.interpreter_options.get(name, {})
            built[name] = _interpreter(chosen, name, json.dumps(options, default=str), _stamps(options.values()))
        alarm = _alarm(chosen, job.defense_file, _stamps([job.defense_file])) if job.defense_file else None
        return cls(_classifier(*chosen), built, job.device, alarm)


def _identity(job: Job) -> tuple[Any, ...]:
    return job.classifier, job.options, job.device, _stamps((job.options.weights, job.options.classes))


def _stamps(paths: Iterable[object]) -> tuple[int, ...]:
    """When the files among some options were written: another content under the same name is another system."""
    files = [Path(path) for path in paths if isinstance(path, str) and os.sep in path]
    return tuple(file.stat().st_mtime_ns for file in files if file.is_file())


@functools.lru_cache(maxsize=1)
def _classifier(name: str, options: Any, device: str, _stamps: tuple[int, ...]) -> Classifier:
    _alarm.cache_clear()
    _interpreter.cache_clear()  # those of the classifier that was there before would keep it in memory
    return registry.build_classifier(name, options, device)


@functools.cache
def _interpreter(chosen: tuple[Any, ...], name: str, options: str, _stamps: tuple[int, ...]) -> Interpreter:
    return registry.build_interpreter(name, _classifier(*chosen), json.loads(options))


@functools.cache
def _alarm(chosen: tuple[Any, ...], path: str, _stamps: tuple[int, ...]) -> Defense:
    return registry.build_defense(path, _classifier(*chosen))


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
