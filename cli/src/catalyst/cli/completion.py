"""Completion at once: for bash, zsh and fish, by the scripts that `--install-completion` writes.

typer's own way builds a pydantic adapter for every option on each press of the key, which takes longer than a person
waits. Here the words are only looked at. Other shells go typer's way.

```
bash        COMP_WORDS, COMP_CWORD                         a value a line
zsh         _TYPER_COMPLETE_ARGS                           _arguments '*: :(("a" "b"))', or _files
fish        _TYPER_COMPLETE_ARGS, …_FISH_ACTION            a value a line; for is-args only the exit code
```
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import typer.main

from catalyst.cli.context import names
from catalyst.cli.door import Output, app


def complete(shell: str, environ: Mapping[str, str]) -> tuple[str, int]:
    """What to print, and the exit code."""
    if shell == "bash":
        words = _split(environ.get("COMP_WORDS", ""))
        count = environ.get("COMP_CWORD", "1")
        at = int(count) if count.isdecimal() else 1
        return "\n".join(values([*words[1:at], words[at] if at < len(words) else ""], environ)), 0
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    words = _split(line)[1:]
    found = values(words if words and not line.endswith(" ") else [*words, ""], environ)
    if shell == "zsh":
        quoted = "\n".join('"{}"'.format(one.replace(":", r"\\:")) for one in found)
        return (f"_arguments '*: :(({quoted}))'" if found else "_files"), 0
    if environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return "", int(not found)
    return "\n".join(found), 0


def values(words: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """What the last of the words, which may be empty, can become."""
    command: Any = typer.main.get_command(app)
    asked: Any = None
    for word in words[:-1]:
        if asked is not None:
            asked = None
        elif word.startswith("-"):
            option = _option(command, word)
            asked = option if option is not None and not option.is_flag else None
        elif hasattr(command, "commands"):
            command = command.commands.get(word)
            if command is None:
                return []
    last = words[-1]
    if asked is not None:
        found = _values(asked, environ)
    elif last.startswith("-"):
        found = [name for each in command.params if each.param_type_name == "option" for name in each.opts]
    else:
        found = list(getattr(command, "commands", ()))
    return [one for one in found if one.startswith(last)]


def _option(command: Any, word: str) -> Any:
    """The option of that name; None for one that brings its value along, or that nobody knows."""
    options = [each for each in command.params if each.param_type_name == "option"]
    return next((each for each in options if word in each.opts), None)


def _values(option: Any, environ: Mapping[str, str]) -> list[str]:
    if "--output" in option.opts:
        return [str(one) for one in Output]
    return names(environ) if "--context" in option.opts else []


def _split(line: str) -> list[str]:
    """The words of a line that may end within quotes."""
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
