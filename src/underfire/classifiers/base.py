"""Any torch network as a classifier under attack: normalisation inside, weights frozen, passes counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from underfire.classifiers.apart import apart
from underfire.classifiers.head import Features, last_linear, pooled, traced
from underfire.classifiers.layers import Layered
from underfire.classifiers.meter import PassMeter
from underfire.classifiers.sound import sound
from underfire.core import FAILURES, ClassNames, Images, Meter, Preprocess, UnderfireError, UnsuitableError, refused
from underfire.core.hashing import spell


class TorchClassifier(Layered):
    """A network with its input policy.

    Args:
        module: logits from normalised images; it becomes the classifier's own: put into eval mode, its weights'
            gradients switched off. `wrap` makes a copy first.
        name: what records call it.
        preprocess: sizes and normalisation of the input.
        classes: names of the outputs.
        features: function from normalised images to the last feature maps (N, C, h, w), where it is known.
        scores: function from the last feature maps to logits, where it is known.
        pyramid: function from normalised images to feature maps at strides 4 to 32, the last ones those of `features`,
            where it is known.
        entry: which of several weights in a training checkpoint these are.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        preprocess: Preprocess,
        classes: ClassNames,
        features: Features | None = None,
        scores: Features | None = None,
        pyramid: Callable[[Tensor], Sequence[Tensor]] | None = None,
        entry: str = "",
    ) -> None:
        self.module = module.eval()
        for p in module.parameters():
            p.requires_grad_(False)
        self.name, self.preprocess, self.classes, self.entry = name, preprocess, classes, entry
        self.meter: Meter = PassMeter()
        self._features, self._scores, self._pyramid = features, scores, pyramid
        self._head: nn.Linear | None = None
        self.digest = weights_digest(module, preprocess)
        self._to_device()

    def _to_device(self) -> None:
        anchor = next(self.module.parameters(), torch.zeros(()))
        self.device, dtype = anchor.device, anchor.dtype if anchor.is_floating_point() else torch.float32
        self._mean = torch.tensor(self.preprocess.mean, device=self.device, dtype=dtype).view(1, 3, 1, 1)
        self._std = torch.tensor(self.preprocess.std, device=self.device, dtype=dtype).view(1, 3, 1, 1)

    def to(self, device: torch.device | str) -> TorchClassifier:
        """Move the weights to a device, and return the classifier."""
        self.module.to(device)
        self._to_device()
        return self

    def logits(self, x: Images) -> Tensor:
        """Compute the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return _logits(self.module(self._normalised(x)), self.name)

    def features(self, x: Images) -> Tensor:
        """Compute the last feature maps (N, C, h, w).

        Raises:
            UnderfireError: the network has none that are pooled into a linear head.
        """
        return self._pooled_features()(self._normalised(x))

    def scores(self, features: Tensor) -> Tensor:
        """Compute the logits (N, K) of last feature maps (N, C, h, w)."""
        self._pooled_features()
        assert self._scores is not None  # found together with the features
        return self._scores(features)

    def pyramid(self, x: Images) -> list[Tensor]:
        """Compute feature maps at strides 4 to 32, finest first; the last ones are those of `features`.

        Raises:
            UnderfireError: the network has none.
        """
        if self._pyramid is None:
            raise UnsuitableError(
                f"'{self.name}' has no feature pyramid: use a timm classifier ('timm:NAME'), or wrap yours with "
                "pyramid=."
            )
        return list(self._pyramid(self._normalised(x)))

    @property
    def head(self) -> Tensor:
        """Weights (K, C) of the linear head; UnderfireError as in `features`."""
        self._pooled_features()
        assert self._head is not None  # found together with the features
        return self._head.weight

    def _normalised(self, x: Images) -> Tensor:
        return (self.meter.tap(x) - self._mean) / self._std

    def _pooled_features(self) -> Features:
        """Return the function of the features, once it is shown that pooling and a linear head give the logits."""
        if self._head is None:
            self._features, self._scores, self._head = self._find_head()
        assert self._features is not None  # _find_head raises otherwise
        return self._features

    @torch.no_grad()
    def _find_head(self) -> tuple[Features, Features, nn.Linear]:
        size = self.preprocess.input_size
        x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)
        x = (x - self._mean) / self._std
        try:
            logits = _logits(self.module(x), self.name)
        except FAILURES as e:
            raise refused(self.name, size, e) from e
        if not bool(logits.isfinite().all()):
            raise UnderfireError(f"'{self.name}' returns values that are not finite: check the weights and the policy.")
        for features, scores in [(self._features, self._scores)] if self._features else traced(self.module, x):
            linear = last_linear(self.module)
            if linear is None or features is None:
                continue
            maps = features(x)
            if maps.dim() != 4 or maps.shape[1] != linear.in_features:
                continue
            if torch.allclose(pooled(linear, maps), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
                return features, scores or partial(pooled, linear), linear
        raise UnsuitableError(
            f"'{self.name}' does not end in global average pooling and one linear layer, so it has no class activation "
            "map: choose another interpreter for it, or a classifier such as efficientnet-lite0, resnet50 or "
            "densenet169."
        )


def wrap(
    module: nn.Module,
    *,
    input_size: int = 224,
    resize: int | None = None,
    mean: float | Sequence[float] = (0.485, 0.456, 0.406),
    std: float | Sequence[float] = (0.229, 0.224, 0.225),
    interpolation: str = "bicubic",
    classes: Sequence[str] | None = None,
    name: str = "custom",
    features: Features | None = None,
    scores: Features | None = None,
    pyramid: Callable[[Tensor], Sequence[Tensor]] | None = None,
) -> TorchClassifier:
    """Make a classifier of your own network.

    Example:
        ``underfire.wrap(my_resnet, input_size=224, classes=["cat", "dog"])``

    Args:
        module: network from normalised images (N, 3, H, W) to logits (N, K). It stays as it is: a copy is attacked.
        input_size: side of its square input, px.
        resize: length of a photo's shorter side before the centre crop, px; by default 8/7 of the input size.
        mean: what is subtracted from each colour channel in [0, 1]; one number for all three, or three.
        std: what each channel is then divided by, likewise.
        interpolation: bilinear, bicubic, lanczos or nearest.
        classes: names of the K outputs; by default numbers.
        name: its name in records.
        features: function to the maps that are averaged before the linear head; found without help in most CNNs.
        scores: function from these maps to logits, where it is more than mean and linear layer.
        pyramid: function to the feature maps at strides 4 to 32, for RTS; the last ones are those of ``features``.

    Raises:
        UnderfireError: it is no module that returns logits, or sizes that do not fit together.
    """
    ours, (features, scores, pyramid) = apart(_checked(module), name, [features, scores, pyramid])
    policy, named = _policy(input_size, resize, mean, std, interpolation), ClassNames(tuple(classes or ()))
    own: dict[str, Any] = {"features": features, "scores": scores, "pyramid": pyramid}
    classifier = TorchClassifier(ours, name=name, preprocess=policy, classes=named, **own)
    return _numbered(classifier) if classes is None else classifier


def _checked(module: object) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise UnderfireError(f"wrap takes a torch module, not a {type(module).__name__}.")
    return module


def _numbered(classifier: TorchClassifier) -> TorchClassifier:
    """Name the outputs of a classifier by numbers."""
    classifier.classes = ClassNames(tuple(f"class {i}" for i in range(_outputs(classifier))))
    return classifier


def _policy(side: int, resize: int | None, mean: Any, std: Any, interpolation: str) -> Preprocess:
    if not isinstance(side, int) or side < 1:
        raise UnderfireError(f"input_size={side}: give the side of the square input in px, such as 224.")
    resize = round(side * 8 / 7) if resize is None else resize
    return sound(Preprocess(side, resize, _three("mean", mean), _three("std", std), interpolation))


@torch.no_grad()
def _outputs(classifier: TorchClassifier) -> int:
    """Count the outputs, on one grey image."""
    side = classifier.preprocess.input_size
    try:
        shape = tuple(classifier.logits(torch.full((1, 3, side, side), 0.5, device=classifier.device)).shape)
    except FAILURES as e:
        raise refused(classifier.name, side, e) from e
    if len(shape) != 2 or shape[1] < 2:
        raise UnderfireError(
            f"'{classifier.name}' returns {shape} for one image: logits (1, K) of two classes or more are needed."
        )
    return shape[1]


def _logits(out: object, name: str) -> Tensor:
    if not isinstance(out, Tensor):
        raise UnderfireError(
            f"'{name}' returns a {type(out).__name__}, not a tensor: wrap a module that returns only logits (N, K)."
        )
    return out


def _three(what: str, values: Any) -> tuple[float, float, float]:
    try:
        r, g, b = [float(v) for v in (values if isinstance(values, Iterable) else (values,) * 3)]
    except (TypeError, ValueError) as e:
        raise UnderfireError(f"{what}={values}: give one number, or three: red, green and blue.") from e
    return r, g, b


def weights_digest(module: nn.Module, preprocess: Preprocess) -> str:
    """Compute the SHA-256 of every weight's name, type, shape and bytes, and of the input policy."""
    digest = hashlib.sha256(spell(preprocess).encode())
    for key, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
