"""Run the command line as ``python -m latentood.cli``."""

from latentood.cli.commands import main

main()
