"""What a package beside underfire looks like: an interpreter, an attack and a classifier (docs/extend.md)."""
