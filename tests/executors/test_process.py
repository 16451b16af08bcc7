"""How a worker's process is set up."""

from __future__ import annotations

import threadpoolctl

from underfire.executors.process import prepare


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"}


def test_numpys_linear_algebra_has_as_many_threads_as_the_worker() -> None:
    with threadpoolctl.threadpool_limits(2):  # puts back what was
        prepare(1)
        assert blas_threads() == {1}
