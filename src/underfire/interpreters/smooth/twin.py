"""The twin of one classifier: how far the input of each kink spreads, and whether the twin is the same network.

It is checked once for each classifier, on an image like a photo (1/f noise), a black one and a white one:

    logits           those of twin and network differ by at most 1e-4 of their spread
    gradient         that of the twin becomes that of the network as τ → 0
    second           the derivative of the twin's gradient is finite, and is the change of this gradient
    kinks            none has stayed sharp (`inspect`)
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref

import torch
from torch import Tensor

from underfire.core import Classifier, Images, UnderfireError
from underfire.core.precision import judging
from underfire.interpreters.smooth.bend import Slope
from underfire.interpreters.smooth.inspect import Inspector
from underfire.interpreters.smooth.mode import Smoothed, entered, smoothed

USUAL = 1.84
"""The spread that τ is given for: the geometric mean over the activations of EfficientNet-Lite0."""
LOGITS, GRADIENT, SECOND = 1e-4, 5e-2, 2e-2
"""Differences of twin and network at most, as shares of the logits' spread and of the gradient; and the second
derivative at least, as a share of the gradient's change (the forward is exact, so the two are never quite the same)."""
SHARP, STEP, NOISE = 1e-10, 4e-3, 1e-4
"""A τ in place of 0; a step of one level; the rounding of a gradient, as a share of it."""


class Twin:
    """A classifier with smooth slopes that is checked to be the same network.

    Args:
        classifier: any differentiable classifier.
        like: images of the classifier's size, type and device.

    Raises:
        UnderfireError: the twin is another network, or a kink has stayed sharp.
    """

    def __init__(self, classifier: Classifier, like: Images) -> None:
        self.name = classifier.name
        self.spreads: list[float] = []
        self.found: dict[str, float] = {}
        """The measured differences: 'logits', 'gradient', 'second'."""
        x = _trial_images(like)
        with classifier.meter.aside(), judging(), torch.enable_grad():
            self._measure(classifier, x)

    def smoothed(
        self, slope: Slope, pool: bool = True, by_layer: bool = False
    ) -> contextlib.AbstractContextManager[Smoothed]:
        """Smooth the slopes for the time of a `with` block.

        Args:
            slope: the stand-in for the step function.
            pool: whether max-pooling is smoothed too.
            by_layer: whether τ is in units of the spread of each layer's input; then the classifier is called once in
                the block.
        """
        return smoothed(slope, pool, self.spreads if by_layer else None)

    def _measure(self, classifier: Classifier, x: Images) -> None:
        x = x.requires_grad_()
        plain = classifier.logits(x)
        with entered(_Measuring(self.spreads)) as mode, Inspector(mode) as inspector:
            twin = classifier.logits(x)
        sharp = [*inspector.found, *(f"a comparison in {name}" for name in mode.loose)]
        if sharp:
            raise UnderfireError(
                f"The smoothed twin of '{self.name}' cannot smooth {_listed(sharp)}: write it in plain PyTorch "
                "(scripted and traced modules hide their activations), or attack the prediction alone (pgd)."
            )
        spread = float(plain.detach().amax() - plain.detach().amin())
        self.found["logits"] = float((twin - plain).detach().abs().amax()) / (spread or 1.0)
        if not float((twin - plain).detach().abs().amax()) <= LOGITS * spread and bool(plain.isfinite().all()):
            raise self._other("its logits are not the network's")
        w = torch.randn(plain.shape[1], generator=torch.Generator().manual_seed(0)).to(plain)
        self._follow(classifier, x[:1].detach(), torch.autograd.grad(plain[0] @ w, x)[0][:1], w)

    def _follow(self, classifier: Classifier, x: Images, gradient: Tensor, w: Tensor) -> None:
        """Compare first and second derivatives of the score ``w`` with the network's ``gradient`` at ``x``."""

        def at(x: Images, slope: Slope, twice: bool = False) -> tuple[Images, Tensor]:
            x = x.requires_grad_()
            with self.smoothed(slope, by_layer=True):
                return x, torch.autograd.grad(classifier.logits(x)[0] @ w, x, create_graph=twice)[0]

        sharp = at(x.clone(), Slope(tau=SHARP))[1]
        size = float(gradient.norm())
        self.found["gradient"] = float((sharp - gradient).norm()) / (size or 1.0)
        if math.isfinite(size) and not float((sharp - gradient).norm()) <= GRADIENT * size:
            raise self._other("its gradient does not become the network's as τ → 0")
        leaf, bends = at(x.clone(), Slope(), twice=True)
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).sign().to(x)
        second = torch.autograd.grad((bends * v).sum(), leaf)[0] if bends.requires_grad else torch.zeros_like(v)
        change = (at(leaf.detach() + STEP * v, Slope())[1] - bends.detach()) / STEP
        noise = NOISE * size / STEP
        self.found["second"] = float(second.norm()) / (float(change.norm()) or 1.0)
        if math.isfinite(size) and not float(second.norm()) + noise >= SECOND * float(change.norm()):
            raise self._other("its second derivative is not the change of its gradient")

    def _other(self, what: str) -> UnderfireError:
        return UnderfireError(
            f"The smoothed twin of '{self.name}' is another network: {what}. Its second derivatives would be wrong, so "
            "attack the prediction alone (pgd)."
        )


class _Measuring(Smoothed):
    """The mode with one τ for all kinks, which notes how far the input of each spreads on the first image."""

    def __init__(self, spreads: list[float]) -> None:
        super().__init__(Slope())
        self.taken = spreads

    def slope_at(self, z: Tensor) -> Slope:
        """Note the spread of the next kink's input, and return its slope."""
        first = z.detach()[:1] if z.dim() else z.detach()
        first = first[first.isfinite()]
        spread = float(first.std()) if first.numel() > 1 else 0.0
        self.taken.append((spread if 0 < spread < math.inf else USUAL) / USUAL)
        return self.slope


def _listed(sharp: list[str]) -> str:
    found = list(dict.fromkeys(sharp))
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


_twins: weakref.WeakKeyDictionary[Classifier, Twin] = weakref.WeakKeyDictionary()
_making = threading.Lock()


def twin_of(classifier: Classifier, like: Images) -> Twin:
    """Find the twin of a classifier; the first time it is measured and checked.

    Args:
        classifier: any differentiable classifier.
        like: images of the classifier's size, type and device.

    Raises:
        UnderfireError: as in `Twin`.
    """
    with _making:
        if classifier not in _twins:
            _twins[classifier] = Twin(classifier, like)
        return _twins[classifier]


def _trial_images(like: Images) -> Images:
    """Make images (3, C, H, W): one like a photo, one black, one white."""
    h, w = like.shape[-2:]
    noise = torch.randn(3, h, w, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fy, fx = torch.fft.fftfreq(h, dtype=torch.float64), torch.fft.rfftfreq(w, dtype=torch.float64)
    size = (fy[:, None] ** 2 + fx**2).sqrt().clamp_min(1 / max(h, w))
    photo = torch.fft.irfft2(torch.fft.rfft2(noise) / size, s=(h, w))
    grey = photo.mean(0, keepdim=True)  # the colours of a photo go together
    photo = grey / grey.std() if like.shape[1] == 1 else 0.8 * grey / grey.std() + 0.2 * photo / photo.std()
    photo = (0.45 + 0.25 * photo).clamp(0, 1)
    return torch.stack([photo, torch.zeros_like(photo), torch.ones_like(photo)]).to(like)
