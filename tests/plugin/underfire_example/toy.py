import torch
from torch import nn

from underfire.classifiers import inputs, weights
from underfire.classifiers.base import TorchClassifier
from underfire.core import ClassifierOptions, Preprocess


def toy(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """Two layers of random filters over 32 px and ten classes: for tests."""
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
        module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    state, metadata = weights.read(options.weights) if options.weights else ({}, {})
    if options.weights:
        weights.fit(module, state, options.weights, "toy")
    policy = inputs.policy(Preprocess(32, 36), metadata, options)
    return TorchClassifier(module, name="toy", preprocess=policy, classes=inputs.class_names(10, metadata, options))
