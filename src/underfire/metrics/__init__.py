"""Statistics: estimates with intervals, conformal thresholds, detection. No torch."""
