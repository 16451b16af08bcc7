"""Any torch network as a classifier under attack: normalisation inside, weights frozen, passes counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from underfire.classifiers import given, inputs
from underfire.classifiers.apart import apart
from underfire.classifiers.digest import weights_digest
from underfire.classifiers.ending import as_written, bare
from underfire.classifiers.folded import Folded
from underfire.classifiers.head import Features, FoundHead
from underfire.classifiers.headless import found_or_told
from underfire.classifiers.meter import PassMeter
from underfire.classifiers.picked import pick, plain
from underfire.classifiers.precise import Precise, laid, whole
from underfire.classifiers.sound import channels_of
from underfire.core import (
    FAILURES,
    HEADS,
    ClassNames,
    Images,
    Meter,
    Preprocess,
    UnsuitableError,
)
from underfire.core.door import Door
from underfire.doors.function import given_door


class TorchClassifier(Folded):
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
        notes: what was found in the file of the network, or done to it: sentences, shown wherever the input policy is.
        fit: how its own preprocessing makes photos square: 'crop', 'squash' or 'pad'.
        ending: what was taken off the network's end, so that it returns logits: 'softmax', 'log-softmax' or ''.
        classes_from: where the names of the classes are from; '' where nobody says.
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
        fit: str = "crop",
        ending: str = "",
        classes_from: str = "",
    ) -> None:
        self.module = module.eval()
        for p in module.parameters():
            p.requires_grad_(False)
        self.name, self.preprocess, self.classes, self.entry = name, preprocess, classes, entry
        self.head_kind, self.notes, self.fit, self.taken_off = head, tuple(notes), fit, ending
        self.classes_from = classes_from
        self.meter: Meter = PassMeter()
        self.door: Door | None = None
        self.beside: tuple[str, ...] = ()  # files that it was read from, beside the one in its name
        self._features, self._scores, self._pyramid = features, scores, pyramid
        self._head: FoundHead | None = None
        self.digest = weights_digest(module, preprocess, head)
        self.module = as_written(module)  # after the digest, in which the names of the weights are as they are given
        self._run: Features = self.module
        self._changed()
        self._to_device()

    def _to_device(self) -> None:
        anchor = next(self.module.parameters(), torch.zeros(()))
        self.device, dtype = anchor.device, anchor.dtype if anchor.is_floating_point() else torch.float32
        self._mean = torch.tensor(self.preprocess.mean, device=self.device, dtype=dtype).view(1, -1, 1, 1)
        self._std = torch.tensor(self.preprocess.std, device=self.device, dtype=dtype).view(1, -1, 1, 1)
        self._sides = torch.tensor((-0.5, 0.5), device=self.device, dtype=dtype)

    def _changed(self) -> None:
        self._precise = Precise(self.module, self._shown)

    def to(self, device: torch.device | str) -> TorchClassifier:
        """Move the weights to a device, and return the classifier."""
        self.module.to(device)
        self._lay(torch.device(device))
        self._changed()
        self._to_device()
        return self

    def __repr__(self) -> str:
        notes = "".join(f"\n  {note}" for note in self.notes)
        outputs = f"{len(self.classes)} classes, {HEADS[self.head_kind]}"
        return f"<classifier '{self.name}', {outputs}, {self.preprocess}>{notes}"

    def logits(self, x: Images) -> Tensor:
        """Compute the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        with self._precise.passing(self.device):
            return self._paired(whole(pick(self._run(self._normalised(x)), None, self.name)))

    def _paired(self, z: Tensor) -> Tensor:
        """Make the logits (−z/2, z/2) of two classes of one output z; other outputs are logits as they are.

        The softmax of these is σ(−z) and σ(z), and their log-odds are −z and z.
        """
        return z.reshape(-1, 1) * self._sides if self.head_kind == "binary" else z

    def features(self, x: Images) -> Tensor:
        """Compute the last feature maps (N, C, h, w).

        Raises:
            UnderfireError: the network has none of whose average the logits are a linear function.
        """
        features = self.found_head().features
        with self._precise.passing(self.device):
            return whole(features(self._normalised(x)))

    def scores(self, features: Tensor) -> Tensor:
        """Compute the logits (N, K) of last feature maps (N, C, h, w)."""
        return self._paired(self.found_head().scores(features))

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
        with self._precise.passing(self.device):
            return [whole(level) for level in self._pyramid(self._normalised(x))]

    @property
    def head(self) -> Tensor:
        """Weights (K, C) of the linear head; UnderfireError as in `features`."""
        weight = self.found_head().weight
        return self._sides[:, None] * weight if self.head_kind == "binary" else weight

    def _normalised(self, x: Images) -> Tensor:
        return laid((self.meter.tap(x) - self._mean) / self._std)

    def found_head(self) -> FoundHead:
        """Find the head, by measuring; the first time it takes some passes. UnderfireError as in `features`."""
        if self._head is None:
            known = (self._features, self._scores)
            self._head = found_or_told(self.name, self._flat, self.module, self._two_images(), known)
        return self._head

    def _flat(self, x: Tensor) -> Tensor:
        """Compute the outputs (N, K) of normalised images, also of a network that leaves K out where it is 1."""
        z = pick(self._run(x), None, self.name)
        return z[:, None] if z.dim() == 1 else z

    def _shown(self) -> Tensor:
        """Compute the outputs of two images."""
        return self._flat(self._two_images())

    def _two_images(self) -> Tensor:
        """Make two normalised images that differ much: noise, and large coloured spots."""
        return (given.noise_and_spots(self.preprocess).to(self.device) - self._mean) / self._std

    def without_softmax(self) -> TorchClassifier:
        """Take a softmax or log-softmax off the network's end, where there is one, and return the classifier."""
        self._run, self.taken_off = bare(self._run, self._two_images())
        return self


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
    output: str | int | None = None,
    door: str | Callable[..., Any] | Door | None = None,
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
        output: which of several outputs the logits are, by name or counted from 0; by default the one that is called
            logits, or the only one (N, K).
        door: its front door, through which files are forged and judged: a name as for --door, a function from a Pillow
            image to what --door takes of one, or a `Door`; by default 'pillow'.

    Raises:
        UnderfireError: it is no module that returns logits, or sizes that do not fit together.
    """
    ours, (features, scores, pyramid) = apart(given.a_module(module), name, [features, scores, pyramid])
    notes = given.whole_precision(ours)
    policies = partial(given.policy_of, input_size, resize, mean, std, interpolation)
    policy = policies(given.channels_found(ours, policies, name) if channels is None else channels_of(channels))
    ours = plain(ours, given.shown_to(ours, policy)[0], None if output is None else str(output), name)
    found = given.asked(ours, policy, head, name)
    own: dict[str, Any] = {"features": features, "scores": scores, "pyramid": pyramid, "notes": (*notes, *found.notes)}
    own |= {"classes": given.names_of(found, classes, name), "head": found.head}
    own["classes_from"] = "given to wrap" if classes is not None else inputs.NUMBERS
    classifier = TorchClassifier(ours, name=name, preprocess=policy, **own)
    with contextlib.suppress(*FAILURES):  # what fails on images is told by `check`, with a hint
        classifier.without_softmax()
    if door is not None:
        classifier.door = given_door(door, classifier)
    return classifier
