"""Studies of few photos: they show counts, and conclude nothing."""

from __future__ import annotations

from collections.abc import Iterable

from underfire.metrics.decision import FEW
from underfire.study.results import SubjectResults


def few_photos(subjects: Iterable[SubjectResults], experiment: str | None = None) -> int | None:
    """Count the photos of the largest audit, or of the largest of one experiment; None where rates may be given."""
    audits = [audit for one in subjects for audit in (one.audits if experiment is None else one.of(experiment))]
    most = max((len({row["image_sha256"] for row in audit.rows}) for audit in audits), default=0)
    return most if most < FEW else None
