"""What a kind of classifier would pass over: flags that it does not heed, and a word behind a colon that it lacks."""

from __future__ import annotations

from underfire.core import ClassifierOptions, UnderfireError

ONE = {"output": "one output", "key": "one set of weights"}
"""What a classifier has that offers no choice."""


def refuse_unheard(name: str, options: ClassifierOptions, **has: str) -> None:
    """Refuse flags that a kind of classifier does not heed, unless they say what it has anyway.

    Example:
        ``refuse_unheard("timm:resnet18", options, order="rgb", layout="nchw")``

    Args:
        name: the classifier's name in an error.
        options: the user's flags.
        has: option -> what the classifier has.

    Raises:
        UnderfireError: a flag says something else.
    """
    for option, there in has.items():
        given = getattr(options, option)
        if given is not None and given != there:
            raise UnderfireError(f"--{option} {given}: '{name}' has {there}; leave it out.")


def refuse_for_network(name: str, options: ClassifierOptions) -> None:
    """Refuse what a network by name does not heed: it takes colours as they are, and has a key only of own weights.

    Args:
        name: the classifier's name in an error.
        options: the user's flags.

    Raises:
        UnderfireError: flags for files, or a key without weights.
    """
    refuse_unheard(name, options, order="rgb", layout="nchw", output=ONE["output"])
    if not options.weights:
        refuse_unheard(name, options, key=ONE["key"])


def refuse_variant(name: str, variant: str) -> None:
    """Raise UnderfireError for a word behind the colon of a classifier that has no variants."""
    if variant:
        raise UnderfireError(f"'{name}:{variant}': there is one '{name}'; leave ':{variant}' out.")
