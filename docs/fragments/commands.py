"""The command line, from the program itself."""

from collections.abc import Iterable
from typing import Any

from fragments.markdown import code, inline, table
from latentood.cli import typer_app


def commands() -> str:
    """Describe every command: purpose, example, usage, arguments and options."""
    program = typer_app()
    top = program.make_context("latentood", [], resilient_parsing=True)
    parts = [_options(program.get_params(top), top)]
    for name, command in program.commands.items():
        context = command.make_context(name, [], parent=top, resilient_parsing=True)
        about, _, example = command.help.partition("\n\nExample: ")
        usage = " ".join(command.get_usage(context).split()[1:])
        parts.append(f"## {name}\n\n{inline(about)}")
        parts.append(f"```console\n$ {example.strip('`')}\n```\n\nUsage: {code(usage)}")
        parts.append(_options(command.params, context))
    return "\n\n".join(parts)


def _options(parameters: Iterable[Any], context: Any) -> str:
    records = [parameter.get_help_record(context) for parameter in parameters]
    rows = [(code(names), inline(meaning)) for names, meaning in filter(None, records)]
    return table(("argument or option", "meaning"), rows)
