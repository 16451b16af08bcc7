"""The network of a file as a classifier needs it: colours and axes in its own order, image by image if it must be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from underfire.classifiers.picked import pick


class Fronted(nn.Module):
    """A network of a file, from images (N, 3, H, W) in RGB to logits (N, K).

    Args:
        network: the network.
        layout: 'nchw' or 'nhwc', the order of its axes.
        channels: 'rgb' or 'bgr', the order of its colours.
        output: which of several outputs the logits are.
        name: its name in an error.
        single: whether it takes one image at a time only.
    """

    def __init__(
        self, network: nn.Module, layout: str, channels: str, output: str | None, name: str, single: bool = False
    ) -> None:
        super().__init__()
        self.network, self.output, self.name, self.single = network, output, name, single
        self.nhwc, self.bgr = layout == "nhwc", channels == "bgr"

    def arranged(self, x: Tensor) -> Tensor:
        """Bring images (N, 3, H, W) in RGB into the network's own order."""
        x = x.flip(1) if self.bgr else x
        return x.permute(0, 2, 3, 1) if self.nhwc else x

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        x = self.arranged(x)
        if self.single and len(x) != 1:
            return torch.cat([self._asked(one[None]) for one in x])
        return self._asked(x)

    def _asked(self, x: Tensor) -> Tensor:
        z = pick(self.network(x), self.output, self.name)
        return z.flatten(1) if z.dim() > 2 and z.shape[2:].numel() == 1 else z


def pixels_said(layout: str, channels: str, mean: Sequence[float], std: Sequence[float], how: str) -> str:
    """Say how pixels go into the network of a file: the numbers that black and white become, by colour."""
    low, high = (" ".join(f"{(v - m) / s:.4g}" for m, s in zip(mean, std, strict=True)) for v in (0.0, 1.0))
    return f"Input: {layout.upper()}, {channels.upper()}; black is {low}, white is {high} ({how})."
