"""Image classifiers of transformers: a folder that `save_pretrained` wrote, or a name on the hub. No code is run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from underfire.classifiers import hub, inputs
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.front import Fronted
from underfire.classifiers.measured import Measured, measured
from underfire.classifiers.outputs import kind_for
from underfire.classifiers.unheard import ONE, refuse_unheard
from underfire.core import (
    ClassifierOptions,
    MismatchError,
    NotFoundError,
    Preprocess,
    UnderfireError,
    UnsafeFileError,
)
from underfire.core.hashing import digest_of
from underfire.core.naming import short_name
from underfire.registry import register

RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's ways to resize, by their numbers."""
NOT_FUNCTION = ("_name_or_path", "name_or_path", "transformers_version", "id2label", "label2id", "dtype", "torch_dtype")
"""Keys of a config that do not change what the network computes."""
SPARE = {"pooler", "position_ids", "mask_token", "relative_position_index"}
"""Parts of the names of weights that checkpoints often hold and no classifier computes with."""


@register("classifiers", "hf")
def hugging_face(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """A transformers image classifier: ``hf:DIR`` or ``hf:OWNER/NAME`` (pip install 'underfire[hf]')."""
    if importlib.util.find_spec("transformers") is None:
        raise UnderfireError("hf:NAME needs transformers: pip install 'underfire[hf]'.")
    if options.weights:
        raise UnderfireError(f"hf:{variant} has its own weights: leave --weights out.")
    name, where = short_name(f"hf:{variant}"), _where(variant)
    refuse_unheard(name, options, layout="nchw", key=ONE["key"])
    model = _model(name, where)
    door = _door(name, where, options)
    refuse_unheard(name, options, order=door.channels)
    policy = inputs.policy(door.policy, {}, options)
    config: dict[str, Any] = model.config.to_dict()
    multi = config.get("problem_type") == "multi_label_classification"
    k, said = int(model.config.num_labels), _labels(model.config)
    built = TorchClassifier(
        Fronted(model, "nchw", door.channels, options.output, name),
        name=name,
        preprocess=policy,
        classes=inputs.class_names(k, said, options),
        classes_from=inputs.classes_from(k, said, options),
        notes=list(_found(door, multi)),
        head=kind_for(k, options.head or ("multilabel" if multi else None), name),
        fit=door.fit,
    )
    function = {key: value for key, value in config.items() if key not in NOT_FUNCTION}
    built.digest = digest_of([built.digest, function, door.channels, options.output])
    return built


def _where(variant: str) -> str:
    """Return the folder, or the name on the hub."""
    folder = Path(variant).expanduser()
    if not folder.is_dir():
        if short_name(f"hf:{variant}") != f"hf:{variant}" or variant.count("/") > 1:
            raise NotFoundError(f"There is no folder '{variant}': hf: takes a folder or OWNER/NAME on the hub.")
        return variant
    if not (folder / "config.json").is_file():
        raise NotFoundError(
            f"'{variant}' has no config.json: give the folder that save_pretrained of transformers wrote, with "
            "config.json, preprocessor_config.json and model.safetensors."
        )
    return str(folder)


def _model(name: str, where: str) -> Any:
    from transformers import AutoModelForImageClassification  # noqa: PLC0415 (an extra)

    own = {"trust_remote_code": False, "local_files_only": Path(where).is_dir(), "dtype": torch.float32}
    with _quietly(), _told(name, where):
        # Fused attention has no second derivative, which GRAD needs.
        model, info = AutoModelForImageClassification.from_pretrained(
            where, output_loading_info=True, attn_implementation="eager", **own
        )
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info.get("mismatched_keys", ()))
    if missing:
        raise MismatchError(
            f"'{name}' has no weights for {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}: it is no "
            "classifier that was trained. Give one with a classification head."
        )
    unused = sorted(key for key in info["unexpected_keys"] if not SPARE & set(key.split(".")))
    if unused:
        raise MismatchError(
            f"'{name}' has weights that its config.json has no use for ({', '.join(unused[:3])}"
            f"{', …' if len(unused) > 3 else ''}): without them it is another network. Give the config.json that it "
            "was trained with, or save it without these weights."
        )
    return model.eval()


def _door(name: str, where: str, options: ClassifierOptions) -> Measured:
    """Find the policy of the network's own image processor, unless the user gives all of one."""
    from transformers import AutoImageProcessor  # noqa: PLC0415 (an extra)

    side = inputs.side_asked(options)
    if side and options.resize and options.mean and options.std:
        return Measured(Preprocess(side, options.resize), options.order or "rgb", "crop")
    if Path(where).is_dir() and not any(
        (Path(where) / f"{n}_config.json").is_file() for n in ("preprocessor", "processor")
    ):
        raise NotFoundError(
            f"'{name}' has no preprocessor_config.json, which says how photos become its input: copy it from the "
            "network that yours was trained from, or give --input-size, --resize, --mean and --std."
        )
    with _quietly(), _told(name, where):
        processor = AutoImageProcessor.from_pretrained(
            where, trust_remote_code=False, local_files_only=Path(where).is_dir()
        )

    def process(picture: Any) -> Any:
        with _quietly():
            return np.asarray(processor(images=picture, return_tensors="pt")["pixel_values"][0], np.float64)

    return measured(process, _interpolation(getattr(processor, "resample", None)), name)


def _interpolation(resample: Any) -> str:
    """Name a way to resize: Pillow's number, or torchvision's word."""
    if resample is None:
        return "bilinear"
    word = str(getattr(resample, "value", resample)).lower()
    return RESAMPLING[int(word)] if word.isdecimal() and int(word) < len(RESAMPLING) else word


def _labels(config: Any) -> dict[str, str]:
    """Write the names of the classes as metadata; generic ones (LABEL_0) are none."""
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    generic = all(label == f"LABEL_{i}" for i, label in enumerate(names))
    return {} if generic else {"classes": json.dumps(names)}


def _found(door: Measured, multi: bool) -> Iterator[str]:
    if door.fit == "squash":
        yield "Its own processor squashes photos to a square (--door pillow:squash)."
    if door.channels == "bgr":
        yield "Input: BGR."
    if multi:
        yield "Its labels are each on or off (multi-label)."


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' remarks and progress bars from the terminal."""
    from transformers.utils import logging  # noqa: PLC0415 (an extra)

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _told(name: str, where: str) -> Iterator[None]:
    """Turn whatever transformers raises into a sentence; what came from the hub is held against its digests."""
    at_home = Path(where).is_dir()
    try:
        yield
    except UnderfireError:
        raise
    except Exception as e:  # it raises whatever its readers and the hub's client raise
        said = (str(e).strip() or type(e).__name__).splitlines()[0].rstrip(".")
        if "trust_remote_code" in str(e):
            raise UnsafeFileError(
                f"'{name}' brings its own Python code, which underfire does not run: build it yourself and wrap it "
                "(underfire.wrap)."
            ) from e
        if at_home or isinstance(e, ValueError | KeyError):
            raise UnderfireError(f"transformers cannot load '{name}' as an image classifier: {said[:300]}.") from e
        raise hub.not_fetched(name, e, "or give the folder of a copy, hf:DIR") from e
    if not at_home:
        hub.verify(where)
