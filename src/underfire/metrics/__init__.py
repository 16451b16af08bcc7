"""Statistics: estimates with intervals, verdicts, conformal thresholds, detection. It imports no torch."""
