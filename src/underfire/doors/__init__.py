"""The front doors: how a file becomes the input of a classifier, and the way back (docs/door.md)."""
