"""Errors: a mistake that the user can mend is one sentence, and a bad image does not stop the others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping


class UnderfireError(Exception):
    """A mistake that the user can mend: one clear sentence with the user's own words and what to do.

    The classes below tell the most frequent kinds apart, for programs; the sentence is for people and may change.
    """


class UnknownNameError(UnderfireError):
    """A word that names nothing."""


class NotFoundError(UnderfireError):
    """A file or folder that does not exist, or has nothing of what is asked for."""


class DamagedFileError(UnderfireError):
    """A file that is incomplete, was changed, or is not what it should be."""


class UnsafeFileError(UnderfireError):
    """A file that would run code if it were loaded."""


class OtherVersionError(UnderfireError):
    """A file of another version of underfire, which this one cannot read."""


class MismatchError(UnderfireError):
    """A file or folder that was made for another classifier, plan or training than the one asked for."""


class UnsuitableError(UnderfireError):
    """A classifier or a defense without what an interpreter or an attack needs."""


class TooFewError(UnderfireError):
    """Too few photos or classes for what is asked for."""


class BusyError(UnderfireError):
    """A folder that another run is using."""


class ImageErrors(UnderfireError):  # noqa: N818 (it carries several)
    """Errors of some images of a batch; the others can be worked on.

    Args:
        by_row: row in the batch -> the sentence that says what is wrong with that image.
    """

    def __init__(self, by_row: Mapping[int, str]) -> None:
        self.by_row = dict(by_row)
        super().__init__("; ".join(dict.fromkeys(self.by_row.values())))


LISTED = 30
"""Number of known names that an error lists."""


def unknown(what: str, word: str, known: Iterable[str]) -> UnknownNameError:
    """Make the error for a word that is not known; it names the nearest of the known ones.

    Args:
        what: what the word should name, such as 'interpreter'.
        word: the user's word.
        known: the names that exist.
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    return UnknownNameError(f"There is no {what} '{word}'.{hint} Known: {listed or 'none'}.")


FAILURES = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, KeyError, AttributeError)
"""Exceptions that a network raises where an input does not suit it."""
HINTS = (
    (r"memory|threads?\b", "There is not enough memory: use fewer threads, or a smaller batch or input."),
    (r"half|bfloat16|dtype|type.* should be the same", "It must work in float32: call float() on it first."),
    (r"to have 1 channels", "It takes grey images: give channels=1 (--channels 1)."),
    (r"to have 3 channels, but got 1 ", "It takes three colours: leave channels (--channels) out."),
    (r"to have 3 channels", "Does it take (N, H, W, 3)? Then put a permute(0, 2, 3, 1) before it."),
    (
        r"to have \d+ channels",
        "It must take three colours, or one grey: put a layer before it that makes its channels.",
    ),
    (r"Guard failed|size\(\)\[0\]", "Export it with a batch and a size that may vary."),
    (r"same device", "Move all of it to one device."),
    (r"size|shape|height|width|dimension|kernel|divisible|multiple", "Check --input-size."),
)
"""Patterns of an exception's words -> a hint; the first that fits is used."""


def refused(name: str, size: tuple[int, int], error: Exception) -> UnderfireError:
    """Make the error for a network that fails on images of its input size, with a hint from the exception's words.

    Args:
        name: name of the classifier.
        size: height and width of its input, px.
        error: the exception.
    """
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    hint = next((f" {hint}" for pattern, hint in HINTS if re.search(pattern, str(error), re.IGNORECASE)), "")
    return UnderfireError(f"'{name}' fails on a {size[0]}×{size[1]} px input: {said}.{hint}")
