"""The command line as a page of documentation, made from the command line itself. Pure."""

from collections.abc import Iterator
from typing import Any

import typer.main

from catalyst.cli import running
from catalyst.cli.door import app


def sections() -> list[str]:
    """A section for the program, one for each command, and the exit codes, as Markdown."""
    program: Any = typer.main.get_command(app)
    codes = (running.__doc__ or "").partition("\n\n")[2].strip()
    return [
        f"## catalyst\n\n{program.help}\n\n{_table(program)}",
        *(_section(name, command) for name, command in _commands(program, "catalyst")),
        f"## Exit codes\n\n{codes}\n",
    ]


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(name: str, command: Any) -> str:
    found = [each for each in command.params if each.param_type_name == "argument"]
    arguments = " ".join(_metavar(each) if each.required else f"[{_metavar(each)}]" for each in found)
    usage = " ".join(part for part in (name, "[OPTIONS]", arguments) if part)
    return f"## {name}\n\n```\n{usage}\n```\n\n{' '.join((command.help or '').split())}\n\n{_table(command)}"


def _table(command: Any) -> str:
    rows = [
        f"| {_name(each)} | {_escaped(each.help or '')}{_default(each)} |"
        for each in command.params
        if each.name not in ("help", "install_completion", "show_completion")
    ]
    return "\n".join(["| | |", "|---|---|", *rows, ""])


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    return ", ".join(f"`{each}`" for each in parameter.opts)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _default(parameter: Any) -> str:
    """What holds when it is not given, where that is worth a word."""
    default = getattr(parameter.default, "value", parameter.default)
    if parameter.required:
        return " Required." if parameter.param_type_name == "option" else ""
    return f" Default: `{default}`." if isinstance(default, str | int) and not isinstance(default, bool) else ""
