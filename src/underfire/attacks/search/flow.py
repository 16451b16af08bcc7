"""The flow field as a search space: it bends the picture and changes no colour (Xiao et al. 2018).

    position  f = (u, v) for each pixel, in px,  ‖f(p)‖₂ ≤ max_shift
    images    round(255 · warp(x_o, f)) / 255                 the gradient there is used at the warp (straight through)
    warp      x̂(p) = x_o(p + f(p)), bilinear; outside the picture its border continues
    loss      as everywhere, plus  smooth · mean over pixels of  Σ_{q ∈ N(p)} ‖f(p) − f(q)‖₂ , N the four neighbours
              (diagonal: the four diagonal ones, those at the border their own neighbours, as the published code has it)
    start     0, or each coordinate uniform in [−start, start], from the photo's own seed
    step      m ← β₁ m + (1 − β₁) g ,  v ← β₂ v + (1 − β₂) g² ,  f ← f − η(t) · m̂ / √v̂ , cut to the bound   (Adam)
              amsgrad: the largest v so far in place of v (Reddi et al. 2018)

Why Adam and not the ball's sign steps: a sign step moves every pixel as far as the few that matter. On 4 photos with
100 steps against CAM both reached a map L1 of 0.0025: sign steps with a mean flow of 1.06 px, Adam with 0.48 px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from underfire.attacks.search.finite import GRADIENT, POSITION, refuse
from underfire.attacks.search.settings import Decay, Schedule, StepSize
from underfire.core import LEVELS, Images, PerImage
from underfire.core.hashing import ADDED

REFERENCE = 224
"""Shifts are given in px at this input size and scale with the shorter side, so that bends are the same everywhere."""
SQUARE_OF_NOTHING = 1e-8
"""Added under the root, px², so that the norm has a slope where neighbours do not differ."""


def warp(x: Images, flow: Tensor) -> Images:
    """Take each pixel from where its flow points to.

    Args:
        x: (N, 3, H, W) images.
        flow: (N, 2, H, W) in px, to the right and down.

    Returns:
        (N, 3, H, W).
    """
    height, width = x.shape[-2:]
    right = torch.arange(width, dtype=x.dtype, device=x.device) + flow[:, 0]
    down = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] + flow[:, 1]
    grid = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], -1)  # pixel centres in [-1, 1]
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def length(flow: Tensor) -> Tensor:
    """Give the length of each pixel's flow, (N, 1, H, W); of two values `Tensor.norm` takes fifty times as long."""
    return flow.square().sum(1, keepdim=True).sqrt()


def roughness(flow: Tensor) -> PerImage:
    """Sum each pixel's distances to the flow of its four direct neighbours; give the mean over pixels, (N,) in px."""
    across, down = flow[..., 1:] - flow[..., :-1], flow[:, :, 1:] - flow[:, :, :-1]
    pairs = [(d.square().sum(1) + SQUARE_OF_NOTHING).sqrt().sum((1, 2)) for d in (across, down)]
    return 2 * (pairs[0] + pairs[1]) / (flow.shape[-2] * flow.shape[-1])  # each pair is in two sums


def diagonal_roughness(flow: Tensor) -> PerImage:
    """Sum each pixel's distances to the flow of its four diagonal neighbours; give the mean over pixels, (N,) in px.

    Outside the field its border continues, so a pixel at the border is compared with the pixels beside it.
    """
    height, width = flow.shape[-2:]
    wide = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    corners = [wide[:, :, a : a + height, b : b + width] for a in (0, 2) for b in (0, 2)]
    far = [((flow - corner).square().sum(1) + SQUARE_OF_NOTHING).sqrt().sum((1, 2)) for corner in corners]
    return torch.stack(far).sum(0) / (height * width)


@dataclass(frozen=True)
class Flow:
    """Flow fields within a hard bound.

    Args:
        max_shift: longest way that a pixel may come from, px at an input of 224 px.
        step: η over the search, px at an input of 224 px.
        smooth: weight of the penalty on neighbours that part.
        momentum: β₁ of Adam, in [0, 1).
        memory: β₂ of Adam, in [0, 1).
        start: the search starts at a flow that is uniform in [−start, start], px at an input of 224 px.
        amsgrad: divide by the root of the largest v so far.
        diagonal: neighbours are those at the corners.
        restarts: Adam forgets what it has seen when the map begins to count.
    """

    spelled: ClassVar[str] = "Flow"
    eps: ClassVar[None] = None
    """A bend has no L∞ budget."""
    max_shift: Annotated[float, Field(ge=0, le=REFERENCE / 2)]
    step: StepSize = Schedule(0.1)
    smooth: Annotated[float, Field(ge=0)] = 0.5
    momentum: Decay = 0.75
    memory: Decay = 0.95
    start: Annotated[float, Field(ge=0, le=REFERENCE / 2)] = field(default=0.0, metadata=ADDED)
    amsgrad: bool = field(default=False, metadata=ADDED)
    diagonal: bool = field(default=False, metadata=ADDED)
    restarts: bool = field(default=False, metadata=ADDED)

    def walk(self, x: Images, seeds: Sequence[int] = ()) -> FlowWalk:
        """Start at the clean images ``x``, or near them: ``seeds`` has a number for each."""
        return FlowWalk(self, x, seeds)

    def walk_in(self, part: Images, view: tuple[float, float], row: int = 0, seeds: Sequence[int] = ()) -> FlowWalk:
        """Start at the part of a file; ``view`` is how many of its pixels, across and down, fill the input."""
        return FlowWalk(self, part, seeds, view)


@dataclass(frozen=True)
class SeededFlow:
    """Flow fields that start where their images' ``seeds`` say."""

    space: Flow
    seeds: tuple[int, ...]

    def walk(self, x: Images) -> FlowWalk:
        """Start near the clean images ``x``."""
        return self.space.walk(x, self.seeds)

    def walk_in(self, part: Images, view: tuple[float, float], row: int) -> FlowWalk:
        """Start in the ``row``-th file of the batch; see `Flow.walk_in`."""
        return self.space.walk_in(part, view, row, self.seeds[row : row + 1])


class FlowWalk:
    """One batch's flow fields.

    Args:
        space: their bound and steps.
        x: (N, 3, H, W) clean images in [0, 1], on the 8-bit grid.
        seeds: a number for each, for a start that is drawn.
        view: as in `Flow.walk_in`; None: ``x`` is the input.
    """

    def __init__(
        self, space: Flow, x: Images, seeds: Sequence[int] = (), view: tuple[float, float] | None = None
    ) -> None:
        self.space, self.x = space, x.detach()
        across, down = (side / REFERENCE for side in view or (min(x.shape[-2:]),) * 2)
        self.scale = across if across == down else torch.tensor([across, down]).to(x).view(1, 2, 1, 1)
        self.flow = self._inside(self._start(seeds))
        self._forget()
        self._shown = self._warped = self.x

    def _start(self, seeds: Sequence[int]) -> Tensor:
        still = self.x.new_zeros(len(self.x), 2, *self.x.shape[-2:])
        if not self.space.start:
            return still
        scale = self.scale if isinstance(self.scale, float) else self.scale.cpu()  # where the numbers are drawn
        for one, seed in zip(torch.split(still, 1), seeds, strict=True):
            rng = torch.Generator().manual_seed(seed % 2**63)
            drawn = 2 * torch.rand(one.shape, generator=rng, dtype=torch.float64) - 1
            one.copy_(drawn * self.space.start * scale)
        return still

    def _forget(self) -> None:
        """Begin Adam anew."""
        self.mean, self.square = torch.zeros_like(self.flow), torch.zeros_like(self.flow)
        self.largest, self.steps = torch.zeros_like(self.flow), 0

    def begin_map(self) -> None:
        """Hear that the map counts from here on."""
        if self.space.restarts:
            self._forget()

    def images(self) -> Images:
        """Give the images as they would be saved, as a leaf."""
        self.flow = self.flow.detach().requires_grad_()
        with torch.enable_grad():
            self._warped = warp(self.x, self.flow)
        self._shown = ((self._warped.detach() * LEVELS).round() / LEVELS).requires_grad_()
        return self._shown

    def levels(self) -> Tensor:
        """Give the images in 8-bit levels, for a walk in a file."""
        return (self.images().detach() * LEVELS).round().byte()

    def measures(self) -> Mapping[str, PerImage]:
        """Give the mean and the largest shift, (N,) each, px at an input of 224 px."""
        flow = self.flow.detach()
        size = length(flow) / self.scale if isinstance(self.scale, float) else length(flow / self.scale)
        return {"flow_mean_px": size.mean((1, 2, 3)), "flow_max_px": size.amax((1, 2, 3))}

    def step(self, loss: PerImage, progress: float) -> None:
        """Take one step of Adam on the loss and the penalty, then cut the flow to its bound."""
        self.descend(torch.autograd.grad(loss.sum(), self._shown)[0], progress)

    def descend(self, at_image: Tensor, progress: float) -> None:
        """Take the same step, given the gradient (N, 3, H, W) of the loss at the last `images`."""
        refuse(at_image.sum((1, 2, 3)), GRADIENT)
        rough = diagonal_roughness if self.space.diagonal else roughness
        penalty = self.space.smooth * rough(self.flow)
        g = torch.autograd.grad([self._warped, penalty], self.flow, [at_image, torch.ones_like(penalty)])[0]
        b1, b2 = self.space.momentum, self.space.memory
        self.steps += 1
        self.mean = b1 * self.mean + (1 - b1) * g
        self.square = b2 * self.square + (1 - b2) * g.square()
        self.largest = torch.maximum(self.largest, self.square)
        second = self.largest if self.space.amsgrad else self.square
        m, v = self.mean / (1 - b1**self.steps), second / (1 - b2**self.steps)
        eta = self.scale * self.space.step.at(progress)
        moved = self.flow.detach() - eta * m / v.sqrt().clamp_min(torch.finfo(v.dtype).tiny)
        refuse(moved.sum((1, 2, 3)), POSITION)  # the sampler would read memory that is not the picture's
        self.flow = self._inside(moved)

    def _inside(self, flow: Tensor) -> Tensor:
        bound = self.space.max_shift
        if not bound:
            return torch.zeros_like(flow)
        if isinstance(self.scale, float):  # the order of the roundings is that of the first results
            bound = self.scale * bound
            inside: Tensor = flow * (bound / length(flow).clamp_min(bound))
            return inside
        cut: Tensor = flow * (bound / length(flow / self.scale).clamp_min(bound))
        return cut

    def where(self, row: int) -> Tensor:
        """Give the flow of one image, (1, 2, H, W) in px."""
        return self.flow[row : row + 1].detach().clone()

    def go_to(self, positions: Sequence[Tensor]) -> None:
        """Go to these flows, cut to the bound."""
        self.flow = self._inside(torch.cat(list(positions)).to(self.flow))

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,))."""
        self.x, self.flow = self.x[keep], self.flow.detach()[keep]
        self.mean, self.square, self.largest = self.mean[keep], self.square[keep], self.largest[keep]
