"""RTS's network: from a classifier's own feature pyramid to a mask, in one pass (method, section 2.8).

    evidence   E = a ⟨P w̃_c, Q F₃₂⟩ + b              where class c may be, from the head's own row w_c
    gate, top  G = σ(E),  T₃₂ = G · L₃₂ F₃₂
    down       T_s = act(conv₃ₓ₃[ up(T_{2s}), L_s F_s, up(G) ])        s = 16, 8, 4
    mask       m = σ(up(E) + conv₁ₓ₁ T₄)

F_s are the feature maps at stride s, standardised by channel; w̃_c = (w_c − mean w) / mean ‖w − mean w‖. There is no
table of classes: a class that no training photo shows has a row in the head, as all others have.

A network that is trained on forged images too has one more part, which sees the whole image at the finer strides
(method, section 6.2):

    doubt      d = softplus MLP[ mean and spread of act(conv₃ₓ₃ F_s) for s = 4, 8, 16;  mean and largest E;  P w̃_c ]
    mask       m = σ(up(E) + conv₁ₓ₁ T₄ − d)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from underfire.core import Maps

STRIDES = 4
"""Number of levels of the pyramid: strides 4, 8, 16, 32."""
LATERAL = (16, 24, 32, 48)
"""Channels of each level after its 1×1 convolution L_s, finest first."""
WIDTH = (24, 32, 48)
"""Channels after each 3×3 convolution: few where maps are large, so a map costs under 0.2 F on EfficientNet-Lite0."""
GATE = 64
"""Rank of the gate ⟨P w, Q F⟩."""
LOOK = 16
"""Channels of the doubt's convolution at each of the three finer levels."""
TRUSTING = -4.0
"""Start of the doubt before its softplus: softplus(−4) = 0.02 hardly changes the mask."""


class Doubt(nn.Module):
    """The doubt in the evidence: one number ≥ 0 for each image and class.

    Args:
        channels: channels of the pyramid's levels.
        rank: width of the key P w̃_c.
    """

    def __init__(self, channels: Sequence[int], rank: int) -> None:
        super().__init__()
        self.look = nn.ModuleList(nn.Conv2d(c, LOOK, 3, padding=1) for c in channels[:-1])
        self.think = nn.Linear(2 * LOOK * len(self.look) + 2 + rank, 48)
        self.weigh = nn.Linear(48, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.constant_(self.weigh.bias, TRUSTING)

    def forward(self, levels: Sequence[Tensor], evidence: Tensor, key: Tensor) -> Tensor:
        """Compute the doubt (N, 1, 1, 1).

        Args:
            levels: standardised feature maps, finest first.
            evidence: (N, 1, h, w).
            key: (N, rank) of the class.
        """
        seen = [F.silu(look(f)) for look, f in zip(self.look, levels, strict=False)]
        parts = [part for t in seen for part in (t.mean((2, 3)), t.var((2, 3)).add(1e-6).sqrt())]
        parts += [evidence.mean((2, 3)), evidence.amax((2, 3)), key]
        doubt: Tensor = F.softplus(self.weigh(F.silu(self.think(torch.cat(parts, 1)))))
        return doubt[:, :, None, None]


class MaskNet(nn.Module):
    """The network of one classifier.

    Args:
        channels: channels of the pyramid's four levels, finest first; the last is also the width of the head's rows.
        doubts: whether it has the part that is trained on forged images.
    """

    def __init__(self, channels: Sequence[int], doubts: bool = False) -> None:
        super().__init__()
        self.channels = tuple(channels)
        rank = min(GATE, channels[-1])
        for i, c in enumerate(channels):
            self.register_buffer(f"mean_{i}", torch.zeros(c))
            self.register_buffer(f"gain_{i}", torch.ones(c))
        self.centre, self.head_gain = nn.Buffer(torch.zeros(channels[-1])), nn.Buffer(torch.ones(()))
        self.of_class = nn.Linear(channels[-1], rank, bias=False)
        self.of_place = nn.Conv2d(channels[-1], rank, 1, bias=False)
        self.gate_gain = nn.Parameter(torch.ones(()))
        self.gate_shift = nn.Parameter(torch.zeros(()))
        self.lateral = nn.ModuleList(nn.Conv2d(c, n, 1) for c, n in zip(channels, LATERAL, strict=True))
        above = (*WIDTH[1:], LATERAL[-1])
        self.merge = nn.ModuleList(
            nn.Conv2d(below + side + 1, n, 3, padding=1)
            for below, side, n in zip(above, LATERAL[:-1], WIDTH, strict=True)
        )
        self.out = nn.Conv2d(WIDTH[0], 1, 1)
        self.doubt = Doubt(channels, rank) if doubts else None

    def forward(self, levels: Sequence[Tensor], w: Tensor) -> Maps:
        """Compute masks (N, h, w) in [0, 1] at stride 4, high where the class is.

        Args:
            levels: feature maps (N, C_s, h_s, w_s) at strides 4 to 32.
            w: the head's rows (N, C) of the classes.
        """
        levels = [self._standard(i, f) for i, f in enumerate(levels)]
        evidence = self.gate_gain * self.evidence(levels[-1], w) + self.gate_shift
        gate = torch.sigmoid(evidence)
        top = gate * self.lateral[-1](levels[-1])
        for i in reversed(range(STRIDES - 1)):
            size = levels[i].shape[-2:]
            parts = [_up(top, size), self.lateral[i](levels[i]), _up(gate, size)]
            top = F.silu(self.merge[i](torch.cat(parts, 1)))
        z = _up(evidence, top.shape[-2:]) + self.out(top)
        if self.doubt is not None:
            z = z - self.doubt(levels, evidence, self.key(w))
        mask: Maps = torch.sigmoid(z)[:, 0]
        return mask

    def key(self, w: Tensor) -> Tensor:
        """Compute the keys P w̃_c (N, rank) of the head's rows (N, C)."""
        key: Tensor = self.of_class((w - self.centre) * self.head_gain)
        return key

    def evidence(self, last: Tensor, w: Tensor) -> Tensor:
        """Compute ⟨P w̃_c, Q F₃₂⟩ (N, 1, h, w) of standardised last features and the head's rows (N, C)."""
        key = self.key(w)
        found: Tensor = (self.of_place(last) * key[:, :, None, None]).sum(1, keepdim=True)
        return found

    def _standard(self, i: int, f: Tensor) -> Tensor:
        mean: Tensor = getattr(self, f"mean_{i}")
        gain: Tensor = getattr(self, f"gain_{i}")
        return (f - mean[:, None, None]) * gain[:, None, None]

    @torch.no_grad()
    def start(self, levels: Sequence[Tensor], w: Tensor, head: Tensor, generator: torch.Generator) -> None:
        """Set the standardisation, and let the gate start as the class activation map, at the gate's rank.

        The evidence of CAM is ⟨w_c, F⟩. The leading singular vectors V of the head give ⟨Vᵀ w_c, Vᵀ F⟩, the nearest one
        of this rank. Training goes on from there, and a class without a photo still has a sensible gate.

        Args:
            levels: feature maps of some photos.
            w: the head's rows of their classes.
            head: all rows (K, C).
            generator: source of what the head does not determine.
        """
        self._set_scales(levels, head)
        basis = self._basis(head - self.centre, generator)
        self.of_class.weight.copy_(basis)
        gain = getattr(self, f"gain_{STRIDES - 1}")
        self.of_place.weight.copy_((basis / gain)[:, :, None, None])
        raw = self.evidence(self._standard(STRIDES - 1, levels[-1]), w)
        gain_to_two = 2 / (float(raw.std()) + 1e-6)
        self.gate_gain.fill_(gain_to_two)
        self.gate_shift.fill_(-1 - gain_to_two * float(raw.mean()))  # a third of the image is kept
        for parameter in self.out.parameters():
            parameter.zero_()

    def _set_scales(self, levels: Sequence[Tensor], head: Tensor) -> None:
        for i, f in enumerate(levels):
            getattr(self, f"mean_{i}").copy_(f.mean((0, 2, 3)))
            spread = f.std((0, 2, 3)) + 0.01 * f.std()  # or a channel that is nearly always 0 would weigh too much
            getattr(self, f"gain_{i}").copy_(torch.where(spread > 0, 1 / spread, torch.ones_like(spread)))
        self.centre.copy_(head.mean(0))
        self.head_gain.copy_(1 / (head - self.centre).norm(dim=1).mean())

    def _basis(self, centred: Tensor, generator: torch.Generator) -> Tensor:
        """Compute the leading singular vectors of the centred head; random ones where it has too few."""
        basis = torch.linalg.svd(centred.float(), full_matrices=False).Vh[: self.of_class.out_features]
        missing = self.of_class.out_features - len(basis)
        noise = torch.randn(missing, basis.shape[1], generator=generator) / basis.shape[1] ** 0.5
        return torch.cat([basis, noise.to(basis)])


def _up(t: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(t, size, mode="bilinear", align_corners=False)
