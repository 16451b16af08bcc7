"""Whether the attack of a study is sound: the checks of a report in full, and that a white box beats transfer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from underfire.metrics.decision import FEW
from underfire.report.sanity import Check, checked_photos
from underfire.report.sanity import sanity as checks_of
from underfire.study import matrix
from underfire.study.results import StudyResults, SubjectResults

TRANSFER = "A white box beats transfer."


@dataclass(frozen=True)
class Soundness:
    """The checks of one classifier.

    Args:
        subject: the classifier.
        photos: number of photos that they were made on.
        checks: what they say.
    """

    subject: SubjectResults
    photos: int
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.passed is False]


def soundness(study: StudyResults) -> list[Soundness]:
    """Read the checks of each classifier; those without any are left out."""
    found = []
    for subject in study.subjects:
        folders = [audit.out for audit in subject.of("sanity")]
        if folders:
            out = folders[0].parent.parent
            photos = checked_photos(out)
            checks = [*checks_of(out), white_box(study, subject)]
            if photos < FEW:  # counts, and nothing is concluded
                checks = [replace(check, passed=None) for check in checks]
            found.append(Soundness(subject, photos, tuple(checks)))
    return found


def white_box(study: StudyResults, subject: SubjectResults) -> Check:
    """Compare PGD on a classifier's own gradient with PGD's pictures that were made on others, photo by photo."""
    rows = (row for name in subject.interpreters for row in subject.rows("main", "pgd", name))
    own = {row["image_sha256"]: row["success"] for row in rows}
    pairs = [
        (own[photo], reached)
        for other in study.subjects
        for photo, reached in (matrix.by_others(other, subject) if other is not subject else {}).items()
        if photo in own
    ]
    if not pairs:
        return Check(TRANSFER, "no other classifier of the same classes is in this study", None)
    mine, theirs = (sum(pair[k] for pair in pairs) for k in (0, 1))
    said = f"{mine} of {len(pairs)} by its own gradient, {theirs} by pictures that were made on another classifier"
    tells = len(pairs) >= FEW and not mine == theirs == len(pairs)  # where both reach all, nothing is compared
    return Check(TRANSFER, said, mine > theirs if tells else None)
