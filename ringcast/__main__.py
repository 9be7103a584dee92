"""`python -m ringcast`: the command line."""

from .runtime.cli import main

main()
