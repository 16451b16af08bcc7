import io

import numpy as np
import torch
from PIL import Image

from underfire.core import Classifier, Images, PerImage
from underfire.images import pixels


def jpeg(classifier: Classifier, x: Images, quality: int = 75) -> PerImage:
    """How far the probabilities of a JPEG copy are from the picture's own (L1), after Das et al. 2017."""
    copy = pixels.to_tensor([_saved(levels, quality) for levels in pixels.to_levels(x.detach())]).to(x)
    through = x + (copy - x).detach()  # JPEG has no gradient: an attacker is given that of no compression
    p, p_copy = (classifier.logits(one).softmax(1) for one in (x, through))
    return torch.sum((p - p_copy).abs(), 1)


def _saved(levels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
