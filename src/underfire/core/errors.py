"""Errors: what a user can mend is one sentence, and what is wrong with one image does not stop the others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class UnderfireError(Exception):
    """A mistake the user can mend: one clear sentence with the user's own words in it and what to do."""


class ImageErrors(UnderfireError):  # noqa: N818 (it carries several)
    """Some images of a batch cannot be worked on; the others can.

    Args:
        by_row: row in the batch -> the sentence that says what is wrong with that image.
    """

    def __init__(self, by_row: Mapping[int, str]) -> None:
        self.by_row = dict(by_row)
        super().__init__("; ".join(dict.fromkeys(self.by_row.values())))


LISTED = 30
"""Known names that an error spells out."""


def unknown(what: str, word: str, known: Iterable[str]) -> UnderfireError:
    """The error for a word that is none of the ``known`` ones, naming the nearest."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    return UnderfireError(f"There is no {what} '{word}'.{hint} Known: {listed or 'none'}.")
