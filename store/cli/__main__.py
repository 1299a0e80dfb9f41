"""Run the command line as ``python -m firebrick.cli``."""

from firebrick.cli import main

main()
