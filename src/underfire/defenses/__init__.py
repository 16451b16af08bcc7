"""The defenses: what a defender deploys beside a classifier."""
