"""CLIP as a zero-shot classifier: one class for each prompt in the file of --classes (open_clip)."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from underfire.classifiers import hub, inputs, weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.timm_models import FITS
from underfire.classifiers.unheard import refuse_for_network
from underfire.core import ClassifierOptions, Preprocess, UnderfireError, unknown
from underfire.registry import register

RESIZES = {"shortest": "center", "squash": "squash", "longest": "border"}
"""open_clip's words for how photos are made square, and timm's."""


class ZeroShot(nn.Module):
    """An image tower and the texts of the classes: logits (N, K) are scaled cosines of images and texts.

    Args:
        tower: from images to embeddings (N, D).
        texts: (K, D) embeddings of length 1.
        scale: what cosines are multiplied by.
        bias: what is then added, as in SigLIP.
    """

    texts: Tensor

    def __init__(self, tower: nn.Module, texts: Tensor, scale: float, bias: float = 0.0) -> None:
        super().__init__()
        self.tower, self.scale, self.bias = tower, scale, bias
        self.register_buffer("texts", texts)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        return self.scale * F.normalize(self.tower(x), dim=-1) @ self.texts.T + self.bias


@register("classifiers", "clip")
def clip(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """CLIP with the lines of --classes as prompts: ``clip:ViT-B-32/openai`` (pip install 'underfire[clip]')."""
    if importlib.util.find_spec("open_clip") is None:
        raise UnderfireError("clip:NAME needs open_clip: pip install 'underfire[clip]'.")
    name = f"clip:{variant}"
    refuse_for_network(name, options)
    if options.classes is None:
        raise UnderfireError(
            f"{name} needs --classes: a file with a prompt for each class on a line, such as 'a photo of a cat'."
        )
    architecture, _, tag = variant.partition("/")
    model, cfg = _model(architecture, tag, name, options)
    prompts = inputs.prompts(options)
    side = cfg["size"][0] if isinstance(cfg["size"], list | tuple) else cfg["size"]
    base = Preprocess(int(side), int(side), tuple(cfg["mean"]), tuple(cfg["std"]), cfg["interpolation"])
    bias = getattr(model, "logit_bias", None)
    module = ZeroShot(
        model.visual,
        _texts(model, architecture, prompts.names),
        model.logit_scale.exp().item(),
        0.0 if bias is None else bias.item(),
    )
    return TorchClassifier(
        module,
        name=name,
        preprocess=inputs.policy(base, {}, options),
        classes=prompts,
        classes_from=f"the prompts in {options.classes}",
        notes=[f"Its {len(prompts)} classes are the prompts in '{options.classes}'."],
        fit=FITS[RESIZES[cfg["resize_mode"]]],
    )


def _model(architecture: str, tag: str, name: str, options: ClassifierOptions) -> tuple[Any, dict[str, Any]]:
    """Build a CLIP network with its weights, and find its policy for photos."""
    import open_clip  # noqa: PLC0415 (an extra)

    if architecture not in open_clip.list_models():
        raise unknown("CLIP network of open_clip", architecture, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not options.weights and tag not in tags:
        raise unknown(f"set of weights of {architecture} (name it {architecture}/NAME)", tag, tags)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own: dict[str, Any] = {"load_weights": False} if options.weights else {"pretrained": tag}
            model = open_clip.create_model(architecture, pretrained_text=False, **own)
    except Exception as e:  # the hub's client raises whatever its transport raises
        raise hub.not_fetched(name, e, "or give --weights FILE") from e
    if options.weights:
        state, _ = weights.read(options.weights, options.key)
        weights.fit(model, state, options.weights, name)
    return model.eval(), open_clip.get_model_preprocess_cfg(model)


@torch.no_grad()
def _texts(model: Any, architecture: str, prompts: tuple[str, ...]) -> Tensor:
    """Embed prompts: (K, D), of length 1."""
    import open_clip  # noqa: PLC0415 (an extra)

    tokens = open_clip.get_tokenizer(architecture)(list(prompts))
    texts: Tensor = model.encode_text(tokens, normalize=True)
    return texts
