"""Any torch network as a classifier under attack: normalisation inside, weights frozen, passes counted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from underfire.classifiers.apart import apart
from underfire.classifiers.given import asked, channels_found, names_of, policy_of, whole_precision
from underfire.classifiers.head import Features, last_linear, pooled, traced
from underfire.classifiers.meter import PassMeter
from underfire.classifiers.sound import channels_of
from underfire.core import (
    FAILURES,
    HEADS,
    ClassNames,
    Images,
    Meter,
    Preprocess,
    UnderfireError,
    UnsuitableError,
    refused,
)
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
        head: kind of its head; the one output of a 'binary' network becomes the logits of two classes.
        notes: what was done to the module before, in sentences; shown wherever the input policy is.
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
        head: str = "softmax",
        notes: Sequence[str] = (),
    ) -> None:
        self.module = module.eval()
        for p in module.parameters():
            p.requires_grad_(False)
        self.name, self.preprocess, self.classes, self.entry = name, preprocess, classes, entry
        self.head_kind, self.notes = head, tuple(notes)
        self.meter: Meter = PassMeter()
        self._features, self._scores, self._pyramid = features, scores, pyramid
        self._head: nn.Linear | None = None
        self.digest = weights_digest(module, preprocess, head)
        self._to_device()

    def _to_device(self) -> None:
        anchor = next(self.module.parameters(), torch.zeros(()))
        self.device, dtype = anchor.device, anchor.dtype if anchor.is_floating_point() else torch.float32
        self._mean = torch.tensor(self.preprocess.mean, device=self.device, dtype=dtype).view(1, -1, 1, 1)
        self._std = torch.tensor(self.preprocess.std, device=self.device, dtype=dtype).view(1, -1, 1, 1)
        self._sides = torch.tensor((-0.5, 0.5), device=self.device, dtype=dtype)

    def to(self, device: torch.device | str) -> TorchClassifier:
        """Move the weights to a device, and return the classifier."""
        self.module.to(device)
        self._to_device()
        return self

    def __repr__(self) -> str:
        notes = "".join(f"\n  {note}" for note in self.notes)
        outputs = f"{len(self.classes)} classes, {HEADS[self.head_kind]}"
        return f"<classifier '{self.name}', {outputs}, {self.preprocess}>{notes}"

    def logits(self, x: Images) -> Tensor:
        """Compute the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return self._paired(_logits(self.module(self._normalised(x)), self.name))

    def _paired(self, z: Tensor) -> Tensor:
        """Make the logits (−z/2, z/2) of two classes of one output z; other outputs are logits as they are.

        The softmax of these is σ(−z) and σ(z), and their log-odds are −z and z.
        """
        return z.reshape(-1, 1) * self._sides if self.head_kind == "binary" else z

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
        return self._paired(self._scores(features))

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
        weight: Tensor = self._head.weight
        return self._sides[:, None] * weight if self.head_kind == "binary" else weight

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
        x = torch.rand(1, *self.preprocess.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        x = (x - self._mean) / self._std
        try:
            logits = _logits(self.module(x), self.name)
        except FAILURES as e:
            raise refused(self.name, self.preprocess.size, e) from e
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
    input_size: int | tuple[int, int] = 224,
    resize: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    interpolation: str = "bicubic",
    channels: int | None = None,
    head: str | None = None,
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
        module: network from normalised images (N, C, H, W) to logits (N, K), or to one output (N, 1) or (N,). It stays
            as it is: a copy is attacked, in float32 where it is of half precision.
        input_size: side of its square input, px, or its height and width.
        resize: length of a photo's shorter side before the centre crop, px; by default 8/7 of the input size.
        mean: what is subtracted from each channel in [0, 1]; one number for all, or one for each. A network that wants
            −1 to 1 has mean 0.5 and std 0.5; one that wants 0 to 255 has mean 0 and std 1/255.
        std: what each channel is then divided by, likewise. By default both are those of ImageNet's photos.
        interpolation: bilinear, bicubic, lanczos or nearest.
        channels: 3, or 1 for a network of grey images; by default 3, or 1 where the network takes nothing else.
        head: what its outputs mean: 'softmax' (one class of all), 'binary' (one output, two classes) or 'multilabel'
            (labels by themselves); by default as its outputs are: one is binary, sigmoids are labels.
        classes: names of the K classes, two for one output; by default numbers.
        name: its name in records.
        features: function to the maps that are averaged before the linear head; found without help in most CNNs.
        scores: function from these maps to logits, where it is more than mean and linear layer.
        pyramid: function to the feature maps at strides 4 to 32, for RTS; the last ones are those of ``features``.

    Raises:
        UnderfireError: it is no module that returns logits, or sizes that do not fit together.
    """
    ours, (features, scores, pyramid) = apart(_checked(module), name, [features, scores, pyramid])
    notes = whole_precision(ours)
    policies = partial(policy_of, input_size, resize, mean, std, interpolation)
    policy = policies(channels_found(ours, policies, name) if channels is None else channels_of(channels))
    found = asked(ours, policy, head, name)
    named = names_of(found, classes, name)
    own: dict[str, Any] = {"features": features, "scores": scores, "pyramid": pyramid, "notes": (*notes, *found.notes)}
    return TorchClassifier(ours, name=name, preprocess=policy, classes=named, head=found.head, **own)


def _checked(module: object) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise UnderfireError(f"wrap takes a torch module, not a {type(module).__name__}.")
    return module


def _logits(out: object, name: str) -> Tensor:
    if not isinstance(out, Tensor):
        raise UnderfireError(
            f"'{name}' returns a {type(out).__name__}, not a tensor: wrap a module that returns only logits (N, K)."
        )
    return out


def weights_digest(module: nn.Module, preprocess: Preprocess, head: str = "softmax") -> str:
    """Compute the SHA-256 of every weight's name, type, shape and bytes, of the input policy, and of the head."""
    digest = hashlib.sha256(spell(preprocess).encode())
    if head != "softmax":  # the only kind that there was at first
        digest.update(f"head {head}".encode())
    for key, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
