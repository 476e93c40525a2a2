"""The command line: parse, make one call, print."""

from latentood.cli.commands import app, main, typer_app

__all__ = ["app", "main", "typer_app"]
