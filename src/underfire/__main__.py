"""`python -m underfire` is `underfire`."""

from underfire.cli.app import main

if __name__ == "__main__":
    main()
