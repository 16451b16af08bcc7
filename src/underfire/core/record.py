"""The columns of results: one flat row for each judgement. It needs the standard library only, so any tool can read it.

A row whose image failed has an `error`, and None in place of every number that is not known, never zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

SCHEMA_VERSION = 6
"""Version of the columns; `store` reads older ones too."""
NUMBERS_VERSION = 3
"""Version of what the numbers mean. It goes into the key of every unit: after a change all is measured anew."""
IOU_THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""The thresholds t of the IoU curve."""


@dataclass(frozen=True)
class Record:
    """The measurements of one adversarial PNG under one interpreter (method, section 5).

    The verdicts `untouched` and `forged` are not here: they are computed on reading, see `metrics.verdict`.
    """

    image: str
    """Path of the photo below the folder of photos, with its ending; '/' between folders."""
    image_sha256: str
    """SHA-256 of the photo's file."""
    classifier: str
    """The classifier attacked."""
    against: str | None
    """The interpreter attacked; None for attacks on the prediction alone."""
    attack: str
    """Name of the attack: pgd, adv2, …"""
    preset: str
    """How much the attacker spent: fast, thorough, paper."""
    judge_classifier: str
    """The classifier that judges; another one than `classifier` only where a study looks at transfer."""
    interpreter: str
    """The judge's interpreter."""
    defense: str
    """'none' without one."""
    seed: int
    """Seed of what the attack draws, together with `image_sha256`."""
    eps: int | None
    """L∞ budget in levels of 255; None for an attack with another bound."""
    source_class: int | None = None
    """The classifier's own prediction on the clean PNG."""
    source_class_name: str | None = None
    """Its name."""
    target_class: int | None = None
    """The class that the attacker wants."""
    target_class_name: str | None = None
    """Its name."""
    clean_confidence: float | None = None
    """Probability of the source class on the clean PNG."""
    predicted_class: int | None = None
    """argmax on the adversarial PNG; on a 'multilabel' head the strongest label."""
    predicted_class_name: str | None = None
    """Its name."""
    predicted_confidence: float | None = None
    """Probability of predicted_class on the adversarial PNG."""
    success: bool | None = None
    """predicted_class is target_class; on a 'multilabel' head, target_class is on and source_class is off."""
    confidence: float | None = None
    """Probability of the target class on the adversarial PNG."""
    target_map: str = "benign"
    """The source of the target map: benign, class:NAME, image:random, …; only the last part of a path."""
    target_map_of: str | None = None
    """The class or photo whose map it is; None where `target_map` already says it."""
    map_l1: float | None = None
    """Mean absolute difference between the target map and the adversarial map, both in [0, 1]."""
    map_iou: float | None = None
    """IoU of the top 20 % of pixels of the two maps."""
    map_rank: float | None = None
    """Spearman rank correlation; None for a constant map."""
    iou_curve: list[float | None] | None = None
    """IoU of {m ≥ t} at t = 0.1 … 0.9; None where both sets are empty."""
    benign_l1: float | None = None
    """map_l1 to the benign map in place of the target map; equal to map_l1 where the benign map is the target."""
    benign_iou: float | None = None
    """map_iou to the benign map, likewise."""
    target_l1: float | None = None
    """map_l1 between the benign map and the target map: how far the attack had to go; 0 for a benign target."""
    linf_levels: int | None = None
    """Largest pixel change, in levels of 255."""
    flow_mean_px: float | None = None
    """Mean shift of a pixel, px at an input of 224 px, as --max-shift; None for attacks that bend nothing."""
    flow_max_px: float | None = None
    """Largest shift of a pixel, likewise."""
    steps: int | None = None
    """Steps of the search."""
    goal_passes: float | None = None
    """Forward-equivalents F (method, section 4) for the clean prediction and the target map."""
    passes: float | None = None
    """F of the search with all its own checks."""
    judge_passes: float | None = None
    """F of the judgement."""
    seconds: float | None = None
    """Wall time of search and judgement, shared equally by the batch. The only column that differs between reruns."""
    clean: str | None = None
    """The clean image: path of a PNG, relative to the output folder."""
    adversarial: str | None = None
    """The adversarial image, likewise."""
    clean_map: str | None = None
    """The benign map: a float16 .npy at native size, relative to the output folder."""
    wanted_map: str | None = None
    """The target map, likewise; the same file where the benign map is the target."""
    adversarial_map: str | None = None
    """The map of the adversarial PNG for the target class, likewise."""
    clean_alarm_score: float | None = None
    """The defense's score of the clean PNG; None without a defense, and for an alarm without a score."""
    clean_alarm: bool | None = None
    """Whether the clean PNG raises an alarm; None without a defense."""
    alarm_score: float | None = None
    """The defense's score of the adversarial PNG."""
    alarm: bool | None = None
    """Whether the adversarial PNG raises an alarm."""
    alarm_threshold: float | None = None
    """Every score above it is an alarm."""
    alarm_passes: float | None = None
    """F of asking the defense about one image."""
    error: str | None = None
    """Why this image has no result; None for a good row. A row with an error and a `linf_levels` has a picture, but no
    map of it: it counts as not forged."""
    head: str | None = None
    """Head of judge_classifier: softmax, binary or multilabel, where probabilities are sigmoids of single labels."""
    target: str | None = None
    """How the target class was chosen: random, least-likely, nearest, or the index of one class for all."""
    at: str = "input"
    """What was forged: 'file', the photo's own pixels before the front door; 'input', the classifier's input behind it.
    Rows of before version 5 are of the input."""
    door: str | None = None
    """The front door that files go through; None for rows of before version 5."""
    saved_as: str | None = None
    """The format of the forged file and of the clean one beside it; None at the input."""
    saved_instead: str | None = None
    """What of the photo's own file was not kept (a palette, transparency, 16 bits, …); None where all was."""
    through: str | None = None
    """What the search expected platforms to do to the file; None for nothing."""
    file_sha256: str | None = None
    """Digest of the forged file, `adversarial`; None at the input."""
    file_width: int | None = None
    """Width of the upright picture in that file, px; None at the input."""
    file_height: int | None = None
    """Its height, likewise."""
    decoded_linf: int | None = None
    """Largest difference of the two files' pixels as they are decoded, in levels; `linf_levels`, which the budget
    bounds, is measured before a lossy encoder."""
    decoded_mean: float | None = None
    """Mean difference, likewise."""
    seen: list[float | None] | None = None
    """Left, top, right and bottom of the part of the file that the classifier sees, px; None at the input."""
    rescue: bool | None = None
    """Whether the search on prediction and map ended without the class, and the photo went on for the class alone. None
    for attacks that do not do so, and for rows of before."""
    alarm_expected: float | None = None
    """Share of benign photos that raise an alarm, on average over calibrations; None without a defense. Rows of before
    that were defended by 'ensemble' have None too: their defense is what is called 'squeeze' now."""
    alarm_bound: float | None = None
    """Share of benign photos that raise an alarm at most, with 95 % confidence in the calibration at hand."""
    smallest_eps: int | None = None
    """The smallest ε, in levels, at which the photo was forged, and with which its picture was made; None: not forged
    within `eps`, or nobody asked."""
    smallest_shift: float | None = None
    """The same of attacks that bend, px as --max-shift, in whole tenths."""
    smallest_by: str | None = None
    """What counted: 'forged', or 'success' where there was no interpreter or no yardstick; None: nobody asked."""
    map_rank_shown: float | None = None
    """`map_rank` of the maps as they are shown, in 256 levels; 0 where one of them shows one level only. Rows of before
    have None."""


@dataclass(frozen=True)
class Scale:
    """How far one clean image's map lies from those of natural copies and from wrong maps (method, section 5.5)."""

    image: str
    """Path of the photo, as in `Record`."""
    image_sha256: str
    interpreter: str
    jpeg_l1: float | None = None
    """L1 distance between the maps before and after JPEG at quality 90."""
    error: str | None = None
    """Why there is no distance; None for a good row."""
    copies: list[float | None] | None = None
    """L1, 1 − IoU and 1 − rank of each natural copy (`images.copies.COPIES`), one after the other; None where the copy
    lost the class or has no map."""
    impostors: list[float | None] | None = None
    """The same for another photo's map, the mean map of the photos in the batch, and the map for another class."""


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(Record))
"""Names of a record's columns, in order."""
