"""`python -m semipose`: the command line."""

from semipose.cli import main

if __name__ == "__main__":
    main()
