"""The executors: where units of work run."""
