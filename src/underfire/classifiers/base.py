"""Any torch network as a classifier under attack: normalisation inside, weights frozen, passes counted."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from underfire.classifiers.apart import apart
from underfire.classifiers.ending import as_written, bare
from underfire.classifiers.head import Features, Head, find
from underfire.classifiers.headless import why
from underfire.classifiers.meter import PassMeter
from underfire.classifiers.sound import sound
from underfire.core import FAILURES, ClassNames, Images, Meter, Preprocess, UnderfireError, UnsuitableError, refused
from underfire.core.hashing import spell


class TorchClassifier:
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
        self.taken_off = ""
        """What was taken off the end: 'softmax', 'log-softmax' or ''."""
        self.meter: Meter = PassMeter()
        self._features, self._scores, self._pyramid = features, scores, pyramid
        self._head: Head | None = None
        self.digest = weights_digest(module, preprocess)
        self.module = as_written(module)  # after the digest, in which the names of the weights are as they are given
        self._run: Features = self.module
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
        return _logits(self._run(self._normalised(x)), self.name)

    def features(self, x: Images) -> Tensor:
        """Compute the last feature maps (N, C, h, w).

        Raises:
            UnderfireError: the network has none of whose average the logits are a linear function.
        """
        return self.found_head().features(self._normalised(x))

    def scores(self, features: Tensor) -> Tensor:
        """Compute the logits (N, K) of last feature maps (N, C, h, w)."""
        return self.found_head().scores(features)

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
        return self.found_head().weight

    def _normalised(self, x: Images) -> Tensor:
        return (self.meter.tap(x) - self._mean) / self._std

    def found_head(self) -> Head:
        """Find the head, by measuring; the first time it takes some passes. UnderfireError as in `features`."""
        if self._head is None:
            self._head = self._find_head()
        return self._head

    def _find_head(self) -> Head:
        x, size = self._two_images(), self.preprocess.input_size
        try:
            with torch.no_grad():
                logits = _logits(self._run(x), self.name)
            if not bool(logits.isfinite().all()):
                raise UnderfireError(f"'{self.name}' returns values that are not finite: check the weights and policy.")
            found = find(self._run, self.module, x, (self._features, self._scores))
            if found is not None and max(found.shape[1:]) > 1:
                return found
            reason = why(self._run, x) if found is None else f"its last feature maps have one place at {size} px"
        except FAILURES as e:
            raise refused(self.name, size, e) from e
        raise UnsuitableError(
            f"'{self.name}' has no class activation map: {reason}. Choose another interpreter for it, such as grad or "
            "mask, or a classifier whose logits are a linear function of averaged feature maps."
        )

    def _two_images(self) -> Tensor:
        """Make two normalised images that differ much: noise, and large coloured spots."""
        size, seeded = self.preprocess.input_size, torch.Generator().manual_seed(0)
        noise, few = torch.rand(1, 3, size, size, generator=seeded), torch.rand(1, 3, 4, 4, generator=seeded)
        spots = torch.nn.functional.interpolate(few, (size, size), mode="nearest")
        return (torch.cat([noise, spots]).to(self.device) - self._mean) / self._std

    def without_softmax(self) -> TorchClassifier:
        """Take a softmax or log-softmax off the network's end, where there is one, and return the classifier."""
        self._run, self.taken_off = bare(self._run, self._two_images())
        return self


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
    if not isinstance(module, nn.Module):
        raise UnderfireError(f"wrap takes a torch module, not a {type(module).__name__}.")
    ours, (features, scores, pyramid) = apart(module, name, [features, scores, pyramid])
    policy, named = _policy(input_size, resize, mean, std, interpolation), ClassNames(tuple(classes or ()))
    own: dict[str, Any] = {"features": features, "scores": scores, "pyramid": pyramid}
    classifier = TorchClassifier(ours, name=name, preprocess=policy, classes=named, **own)
    with contextlib.suppress(*FAILURES):  # what fails on images is told by `check`, with a hint
        classifier.without_softmax()
    return _numbered(classifier) if classes is None else classifier


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
