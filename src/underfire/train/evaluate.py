"""What a network's maps are worth on photos: its figures, the saliency metric by threshold, and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, final

import torch
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage, evenly
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import maps_of
from underfire.train.finite import refuse_values
from underfire.train.objective import area
from underfire.train.photos import LabelledPhoto, Photos, seed_of
from underfire.train.quality import centre_blob, probability_without, random_block, saliency_metric, top_region
from underfire.train.sheet import Explained, sheet

K = TypeVar("K")
SHARE = 0.2
"""Area share of the regions that are removed for `drop_top` and `drop_random`."""
SHEET = 8
"""Photos of the picture."""


@final
class Evaluator:
    """Judges networks of one classifier.

    Args:
        photos: the training's.
        batch_size: photos at a time.
        seed: of the random regions, together with the photo's digest.
    """

    def __init__(self, photos: Photos, batch_size: int, seed: int) -> None:
        self.photos, self.classifier, self.batch_size, self.seed = photos, photos.classifier, batch_size, seed

    @torch.no_grad()
    def maps(
        self, net: MaskNet, photos: Sequence[LabelledPhoto]
    ) -> Iterator[tuple[Sequence[LabelledPhoto], Images, Labels, Maps]]:
        """Yield clean photos, their classes and their maps, a batch at a time."""
        net.eval()
        for part, x, y in self.photos.batches(photos, self.batch_size):
            yield part, x, y, maps_of(net, self.classifier.pyramid(x), self.classifier.head[y])

    @torch.no_grad()
    def figures(self, net: MaskNet, photos: Sequence[LabelledPhoto], thresholds: Sequence[float]) -> dict[str, float]:
        """Compute the figures of a network, means over the photos.

        Args:
            net: the network.
            photos: which it is judged by.
            thresholds: t; the one of the least saliency metric counts.

        Returns:
            `saliency_metric`, the `area` of the maps, and by how much the probability of the class drops without the
            top region of the map (`drop_top`) and without a random one (`drop_random`).

        Raises:
            NotFiniteError: with the names of the photos that have a number which is not finite.
        """
        metrics: dict[float, list[PerImage]] = {t: [] for t in thresholds}
        found: dict[str, list[PerImage]] = {"area": [], "drop_top": [], "drop_random": []}
        logits = self.classifier.logits
        for part, x, y, m in self.maps(net, photos):
            p = logits(x).softmax(1).gather(1, y[:, None])[:, 0]
            for t in thresholds:
                metrics[t].append(saliency_metric(logits, x, y, m, t))
            block = random_block(m, SHARE, [seed_of(self.seed, "block", one.photo.sha256) for one in part])
            found["area"].append(area(m))
            found["drop_top"].append(p - probability_without(logits, x, y, top_region(m, SHARE)))
            found["drop_random"].append(p - probability_without(logits, x, y, block))
        each = {name: torch.cat(values) for name, values in found.items()}
        each |= {f"saliency_metric at t = {t}": torch.cat(values) for t, values in metrics.items()}
        refuse_values(photos, each)
        return {"saliency_metric": min(_means(metrics).values())} | _means(found)

    @torch.no_grad()
    def saliency(
        self, net: MaskNet, photos: Sequence[LabelledPhoto], thresholds: Sequence[float], blob: bool = False
    ) -> dict[float, float]:
        """Compute the mean saliency metric for each t; of a blob in the centre in place of the maps if ``blob``."""
        return _means({t: [torch.tensor(self.each(net, photos, t, blob))] for t in thresholds})

    @torch.no_grad()
    def each(self, net: MaskNet, photos: Sequence[LabelledPhoto], t: float, blob: bool = False) -> list[float]:
        """Compute the saliency metric of each photo; of a blob in the centre in place of the maps if ``blob``.

        Raises:
            NotFiniteError: with the names of the photos whose metric is not finite.
        """
        found: list[float] = []
        for _, x, y, maps in self.maps(net, photos):
            m = centre_blob(len(maps), (maps.shape[1], maps.shape[2])).to(maps) if blob else maps
            found += saliency_metric(self.classifier.logits, x, y, m, t).tolist()
        refuse_values(photos, {"saliency_metric": torch.tensor(found)})
        return found

    def picture(self, net: MaskNet, photos: Sequence[LabelledPhoto]) -> bytes:
        """Draw a few of the photos and their maps, as PNG."""
        names = self.classifier.classes.names
        shown = [
            Explained(
                (255 * photo).round().byte().permute(1, 2, 0).expand(-1, -1, 3).cpu().numpy(),
                m.cpu().numpy(),
                names[int(label)],
            )
            for _, x, y, maps in self.maps(net, evenly(photos, SHEET))
            for photo, m, label in zip(x, maps, y, strict=True)
        ]
        return sheet(shown)


def _means(found: Mapping[K, Sequence[Tensor]]) -> dict[K, float]:
    return {name: float(torch.cat(list(values)).double().mean()) for name, values in found.items()}
