"""An explanation of another library, which explains and judges pictures that exist.

The library looks at one image at a time, with random numbers that belong to the image: so its map is a function of the
image, as everything that judges must be.
"""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import torch
from torch import Tensor, nn

from underfire.core import (
    Classifier,
    Goal,
    ImageErrors,
    Images,
    Labels,
    Maps,
    Surrogate,
    UnderfireError,
    UnsuitableError,
    unknown,
)
from underfire.images import maps
from underfire.interpreters.cells import by_cells, celled
from underfire.interpreters.drawn import generators
from underfire.interpreters.square import square_side


class Adapter(ABC):
    """An explanation of a library by the name of its class.

    Args:
        classifier: a classifier around a torch module.
        options: passed on to the library, lists as tuples: YAML has no tuples, and libraries ask for them.

    Raises:
        UnderfireError: the library is not installed, has no such class, or its class needs what cannot be given; then
            the error has its own words.
    """

    name: ClassVar[str]
    variant: ClassVar[str] = ""
    package: ClassVar[str]
    """What pip calls the library."""
    module: ClassVar[str]
    """Where its classes are."""
    family = "of other libraries, as judges"
    attack_options: ClassVar[Mapping[str, Any]] = {}
    judges_only: ClassVar[bool] = True

    def __init__(self, classifier: Classifier, **options: Any) -> None:
        found = self.library().get(self.variant)
        if found is None:
            raise unknown(f"explanation of '{self.package}'", self.variant, self.library())
        module = getattr(classifier, "module", None)
        if not isinstance(module, nn.Module):
            raise UnsuitableError(f"'{classifier.name}' is no torch module, which {self.package} asks for.")
        self.classifier, self.kind = classifier, found
        self.options = {key: tupled(value) for key, value in options.items()}
        self.network = Pixels(classifier, module)
        self.digest = celled(f"{self.package} {version(self.package)}", classifier)
        self.map_passes = self._measured()
        self.step_passes = self.map_passes

    @classmethod
    def named(cls, variant: str) -> type[Self]:
        """Make the maker of one explanation of the library."""
        base = cls.name.partition(":")[0]
        return type(cls.__name__, (cls,), {"name": f"{base}:{variant}", "variant": variant})

    @classmethod
    def library(cls) -> Mapping[str, type]:
        """Find the library's explanations by name; UnderfireError where it is not installed."""
        try:
            there = importlib.import_module(cls.module)
        except ImportError as e:
            raise UnderfireError(
                f"'{cls.name}' needs the library {cls.package}, which is not installed: pip install "
                "'underfire[explain]'."
            ) from e
        return {name: kind for name, kind in vars(there).items() if inspect.isclass(kind) and cls.explains(kind)}

    @classmethod
    @abstractmethod
    def explains(cls, kind: type) -> bool:
        """Tell whether a class of the library is an explanation."""

    @abstractmethod
    def evidence(self, x: Images, y: Labels) -> Tensor:
        """Ask the library about one image (1, 3, H, W) and class (1,): (1, H, W)."""

    def _measured(self) -> float:
        """Measure the F of one map, on a grey image with a bright spot."""
        side = square_side(self.classifier, self.name)
        x = torch.full((1, 3, side, side), 0.5).to(next(self.network.parameters(), torch.zeros(())))
        x[..., side // 3 : side // 2, side // 3 : side // 2] = 0.8
        with self.classifier.meter.aside(), self.classifier.meter.counting(1) as spent:
            self._asked(x, torch.zeros(1, dtype=torch.int64, device=x.device))
        return max(1.0, float(spent.passes.max()))

    def _asked(self, x: Images, y: Labels) -> Tensor:
        try:
            with torch.enable_grad(), _drawing_for(x):
                return self.evidence(x.detach().clone().requires_grad_(), y).detach()
        except UnderfireError:
            raise
        except Exception as e:  # a library raises whatever it likes
            said = (str(e).strip() or type(e).__name__).splitlines()[0].rstrip(".")
            raise UnsuitableError(f"'{self.name}' does not explain '{self.classifier.name}': {said}.") from e

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images whose evidence is the same everywhere, or not finite.
        """
        evidence = torch.cat([self._asked(x[n : n + 1], y[n : n + 1]) for n in range(len(x))]).to(x)
        evidence = by_cells(evidence)
        dead = maps.flat(evidence) | ~evidence.isfinite().flatten(1).all(1)
        if bool(dead.any()):
            why = f"{self.name}'s evidence is the same everywhere or not finite, so there is no map."
            raise ImageErrors(dict.fromkeys(dead.nonzero()[:, 0].tolist(), why))
        return maps.unit_scale(evidence)

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> Surrogate:
        """Refuse: what a library computes has no slope for an attacker."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsuitableError(
            f"'{self.name}' explains and judges pictures, and cannot be attacked itself: attack one of its family, "
            "such as gradcam or ig, and judge its pictures by this one."
        )


def tupled(value: Any) -> Any:
    """Turn lists into tuples, however deep they lie in each other."""
    return tuple(map(tupled, value)) if isinstance(value, list) else value


class Pixels(nn.Module):
    """A classifier as a module from images in [0, 1] to logits, with the network's layers inside."""

    def __init__(self, classifier: Classifier, module: nn.Module) -> None:
        super().__init__()
        self.module, self.of = module, classifier

    def forward(self, x: Images) -> Tensor:
        """Compute the logits (N, K)."""
        return self.of.logits(x)


@contextmanager
def _drawing_for(x: Images) -> Iterator[None]:
    """Seed the global random numbers by the image inside, and put them back as they were."""
    seed = int(generators(x, 0, "library")[0].integers(2**31))
    numpy = np.random.get_state()  # noqa: NPY002 (the libraries draw from it)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy)  # noqa: NPY002
