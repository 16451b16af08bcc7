"""What a notebook sees: the result of `underfire.attack` with its views, and the progress of a search."""
