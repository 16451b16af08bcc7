"""The process of a worker: how it is set up, and how fast it is."""

from __future__ import annotations

import ctypes
import functools
import sys
import time

import torch
from threadpoolctl import ThreadpoolController

from underfire.core import Classifier


def prepare(threads: int) -> None:
    """Set up this process: ``threads`` CPU threads, deterministic kernels, an allocator that keeps its pages.

    NumPy's linear algebra has threads of its own, one a core, and they wait for work by spinning: a search through the
    front door took 0.55 of another core with it (measured), which another worker needs.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    ThreadpoolController().limit(limits=threads, user_api="blas")  # anew: SciPy's may have been loaded since (0.5 ms)
    _prepare_once()


@functools.cache
def _prepare_once() -> None:
    """Choose deterministic kernels of full float32, and let the allocator keep its pages.

    PyTorch convolves in TF32 on newer GPUs, with 10 bits behind the point: the judge is float32, and the gradient of a
    deep network is off by some percent.

    glibc gives large blocks back to the system after each use, and then every step of a search pays for the same pages
    again (measured: 15 % of the forward and backward of EfficientNet-Lite0).
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            m_mmap_threshold, m_trim_threshold = -3, -1  # from glibc's malloc.h
            libc.mallopt(m_mmap_threshold, 1 << 30)
            libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def seconds_a_pass(classifier: Classifier, n: int, device: str, threads: int) -> float:
    """Measure the wall time of one forward-equivalent F, in seconds, by a few steps on random images.

    Args:
        classifier: the classifier.
        n: images in a batch.
        device: where it computes.
        threads: CPU threads.
    """
    prepare(threads)
    x = torch.rand(n, *classifier.preprocess.shape).to(device).requires_grad_()
    steps = 0
    torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)
    start = time.perf_counter()
    while steps < 2 or time.perf_counter() - start < 1:
        torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)[0].cpu()
        steps += 1
    return (time.perf_counter() - start) / (3 * n * steps)
