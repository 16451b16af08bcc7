"""Errors: a mistake that the user can mend is one sentence, and a bad image does not stop the others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UnderfireError(Exception):
    """A mistake that the user can mend: one clear sentence with the user's own words and what to do."""


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


def unknown(what: str, word: str, known: Iterable[str]) -> UnderfireError:
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
    return UnderfireError(f"There is no {what} '{word}'.{hint} Known: {listed or 'none'}.")
