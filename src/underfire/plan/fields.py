"""The settings of photos, classifier and attack, each described once for the command line and for readers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from underfire.plan.values import Colours, HeadKind, Numbers, Size, SmallestEps, SmallestShift, smallest_or_fixed

PHOTOS, CLASSIFIER, ATTACK, MACHINE = "Photos", "Classifier", "Attack", "Where it runs"
"""Groups of settings, as `--help` shows them."""

LAST_SEED = 2**63 - 1000
"""A record holds a seed in 64 bits, and --seeds adds up to 999 to the first."""


def flag(group: str, metavar: str, text: str, shown: str = "") -> Any:
    """Describe a setting once, for the help of the command line and for readers of the model.

    Args:
        group: one of the four groups.
        metavar: the kind of value, such as ``PX``.
        text: one sentence.
        shown: the default in words, where it is no plain value.
    """
    return Field(description=text, json_schema_extra={"group": group, "metavar": metavar, "shown": shown})


class PhotoSettings(BaseModel):
    """Which photos are attacked."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # `--help` never needs the validators

    images: Annotated[
        str, flag(PHOTOS, "DIR|FILE|URL|demo", "A folder, one file, s3://…, or 'demo' (built-in photos).")
    ]
    limit: Annotated[
        Annotated[int, Field(ge=1)] | None,
        flag(PHOTOS, "N", "N photos, evenly spaced over the sorted paths.", "all"),
    ] = None
    max_megapixels: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        flag(PHOTOS, "N", "Pixels of one photo at most, in millions.", "89"),
    ] = None
    max_megabytes: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        flag(PHOTOS, "N", "Size of one photo's file at most, in MB.", "512"),
    ] = None


class ClassifierSettings(PhotoSettings):
    """And which classifier."""

    classifier: Annotated[str, flag(CLASSIFIER, "NAME", "See `underfire list`: timm:NAME, hf:DIR, onnx:FILE …")] = (
        "efficientnet-lite0"
    )
    weights: Annotated[
        str | None, flag(CLASSIFIER, "FILE", "Your own weights: safetensors, or a checkpoint without code.")
    ] = None
    input_size: Annotated[
        Size | None,
        flag(CLASSIFIER, "PX|HxW", "Side of the classifier's square input, or its height and width: 64x96."),
    ] = None
    resize: Annotated[
        Annotated[int, Field(ge=16, le=8192)] | None,
        flag(CLASSIFIER, "PX", "Shorter side of a photo before the centre crop."),
    ] = None
    mean: Annotated[
        Numbers | None,
        flag(
            CLASSIFIER,
            "R,G,B|M",
            "What is subtracted from pixels in [0, 1], by colour, or one number for all. A network that wants −1 to 1 "
            "has mean 0.5 and std 0.5; one that wants 0 to 255 has mean 0 and std 0.00392157 (1/255).",
        ),
    ] = None
    std: Annotated[
        Numbers | None, flag(CLASSIFIER, "R,G,B|S", "What pixels are then divided by, by colour, or one number.")
    ] = None
    interpolation: Annotated[
        str | None, flag(CLASSIFIER, "NAME", "How photos are resized: bilinear, bicubic, lanczos or nearest.")
    ] = None
    channels: Annotated[
        Colours | None,
        flag(CLASSIFIER, "1|3", "Colours of the input; with 1 photos are read as grey.", "as the network"),
    ] = None
    head: Annotated[
        HeadKind | None,
        flag(
            CLASSIFIER,
            "softmax|binary|multilabel",
            "What the outputs mean: one class of all; one output for two classes; labels by themselves.",
            "binary for one output, else softmax",
        ),
    ] = None
    scale: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        flag(CLASSIFIER, "S", "White before mean and std, which are in its unit: 255 for networks of levels.", "1"),
    ] = None
    layout: Annotated[
        Literal["nchw", "nhwc"] | None, flag(CLASSIFIER, "nchw|nhwc", "Axes of a file's input (onnx, script).", "found")
    ] = None
    order: Annotated[
        Literal["rgb", "bgr"] | None, flag(CLASSIFIER, "rgb|bgr", "Colours of a file's input (onnx, script).", "rgb")
    ] = None
    key: Annotated[
        str | None, flag(CLASSIFIER, "NAME", "Which of several weights in the file: teacher, state_dict_ema.")
    ] = None
    output: Annotated[
        str | None, flag(CLASSIFIER, "NAME|N", "Which of several outputs the logits are, by name or from 0.")
    ] = None
    door: Annotated[
        str | None,
        flag(CLASSIFIER, "NAME|FILE.py:FUNCTION", "How a file becomes the input: docs/door.md.", "pillow"),
    ] = None
    classes: Annotated[
        str | None, flag(CLASSIFIER, "FILE", "Class names, one on each line, in the order of the outputs.")
    ] = None


class AttackSettings(ClassifierSettings):
    """And how it is attacked and judged."""

    interpreter: Annotated[tuple[str, ...], flag(ATTACK, "NAME", "Repeat for several.")] = ("cam",)
    attack: Annotated[tuple[str, ...], flag(ATTACK, "NAME", "Repeat for several.")] = ("pgd", "adv2")
    preset: Annotated[str, flag(ATTACK, "paper|fast|thorough", "How much the attacker spends.")] = "fast"
    eps: Annotated[
        int,
        Field(ge=1, le=255),
        *smallest_or_fixed(SmallestEps, 8),
        flag(ATTACK, "LEVELS|smallest[:MAX]", "L∞ budget in levels of 255, or the smallest that forges: docs/need.md."),
    ] = 8
    max_shift: Annotated[
        float,
        Field(ge=0, le=112, allow_inf_nan=False),
        *smallest_or_fixed(SmallestShift, 2.0),
        flag(ATTACK, "PX|smallest[:MAX]", "Budget of attacks that bend: px, at an input of 224 px; or as --eps."),
    ] = 2.0
    at: Annotated[
        Literal["file", "input"],
        flag(ATTACK, "file|input", "Forge the photo's file, or the classifier's input (as published).", "file"),
    ] = "input"
    save_as: Annotated[str | None, flag(ATTACK, "png|jpeg[:Q]|webp[:Q]|same", "How forged files are saved.", "png")] = (
        None
    )
    through: Annotated[
        str | None,
        flag(ATTACK, "LIST", "What platforms will do to the files: jpeg:75-95,resize:0.5-1.", "nothing"),
    ] = None
    target: Annotated[
        str,
        flag(
            ATTACK,
            "random|least-likely|nearest|CLASS",
            "CLASS: an index, a WordNet id or a name; nearest: the runner-up. Several with commas: random,nearest.",
        ),
    ] = "random"
    target_map: Annotated[
        str,
        flag(
            ATTACK,
            "SOURCE",
            "The map to be shown: benign, class:NAME|random, image:PATH|random, shape:circle|box or file:PNG.",
        ),
    ] = "benign"
    defense: Annotated[str | None, flag(ATTACK, "FILE", "An alarm that judges every image too: docs/defenses.md.")] = (
        None
    )
    yardstick: Annotated[
        tuple[str, ...] | None,
        flag(ATTACK, "FILE", "A file of `underfire yardstick`; one an interpreter.", "packaged, or own photos"),
    ] = None
    adaptive: Annotated[bool, flag(ATTACK, "", "Attack the defense too: all its members and its score at once.")] = (
        False
    )
    seed: Annotated[int, Field(ge=0, le=LAST_SEED), flag(ATTACK, "S", "Seed of every random choice.")] = 0
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        flag(ATTACK, "N", "Attack each photo with N seeds: S, S + 1, …", "1"),
    ] = None
    sanity: Annotated[
        Annotated[int, Field(ge=0, le=100_000)] | None,
        flag(
            ATTACK, "N", "Check the attack itself on N photos; 0: not at all.", "4, where that is a fifth of the cost"
        ),
    ] = None
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
