"""cli/listed_commands.py: commands that are imported when they are run. Knows typer; no command.

Help and completion of names list what is written down about a command; its module, options and all, is read when it is called.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_COMMAND_LINE = re.compile(r"(nfn |\S.* \| (nfn |sha256sum))")
_WORDS = re.compile(r"-{1,2}[a-z][\w-]*(?: (?!-)\S+)*|\S+")  # an option stays with its values

# what every group of commands has in common
SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}


class Listed(TyperCommand):
    """What is written down about a command.

    Args:
        name: as it is called.
        source: "module:attribute" under nfn_cli.cli, a function or a `typer.Typer`.
        summary: what it is for, on one line of an 80-column terminal.
        section: heading under which the group's help has it.
    """

    def __init__(self, name: str, source: str, summary: str, section: str = "Commands") -> None:
        super().__init__(name, help=summary)
        self.source, self.section = source, section

    def loaded(self) -> Any:
        """The command itself."""
        module, attribute = self.source.split(":")
        found = getattr(importlib.import_module(f"nfn_cli.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        alone = typer.Typer(add_completion=False, **SETTINGS)
        alone.command(self.name, cls=Explained)(found)
        return typer.main.get_command(alone)


class Explained(TyperCommand):
    """A command whose examples can be pasted from its help: a line stays one, or is continued as a shell takes it."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        whole = self.help
        self.help = "\n\n".join(
            _example(part, formatter.width - 2) for part in inspect.cleandoc(whole or "").split("\n\n")
        )
        super().format_help_text(ctx, formatter)
        self.help = whole


def _example(paragraph: str, width: int) -> str:
    """A paragraph that is a command line, cut before options where it is too long; any other paragraph as it is."""
    line = paragraph.strip()
    if not _COMMAND_LINE.match(line):
        return paragraph
    first, *words = _WORDS.findall(line)
    lines = [f"  {first}"]
    for word in words:
        if len(lines[-1]) + len(word) + len(" \\") + 1 > width:
            lines.append(f"      {word}")
        else:
            lines[-1] += f" {word}"
    return "\b\n" + " \\\n".join(lines)


class ListedGroup(TyperGroup):
    """A group of `Listed` commands: `listed` of the class."""

    listed: tuple[Listed, ...] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({str(each.name): each for each in self.listed})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name, command and the arguments left; here the command is imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.loaded() if isinstance(command, Listed) else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Under one heading for each section, in the order of the list."""
        limit = formatter.width - 6 - max((len(name) for name in self.commands), default=0)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                rows = sections.setdefault(getattr(command, "section", "Commands"), [])
                rows.append((name, command.get_short_help_str(limit)))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)
