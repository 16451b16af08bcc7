"""What several tests share: one built EfficientNet-Lite0, scikit-image's photos, and repeatable hypothesis runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from underfire.classifiers.base import TorchClassifier

settings.register_profile("underfire", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("underfire")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def lite0() -> TorchClassifier:
    from underfire.classifiers.efficientnet_lite import lite0 as build
    from underfire.core import ClassifierOptions

    return build("", ClassifierOptions())


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the photos and models in {SHARED}, which this machine has not")
    return SHARED


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray cluster of one node with one CPU; tests add nodes and take them away again."""
    from support import cluster

    started = cluster.start()
    yield started
    started.shutdown()
