"""Parses a command line with absl flags, apart from absl's global ones, and writes `--help`."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from absl import flags

from aekd_tf.experiments.command.errors import UserError

MODULES = "python -m aekd_tf.experiments"


def invocation(command: str) -> str:
    """Returns how a user types a command: through the program, if this process is it."""
    program = os.path.basename(sys.argv[0])
    return f"aekd-tf {command}" if program == "aekd-tf" else f"{MODULES}.{command}"


class Flags:
    """The flags of one command.

    Args:
        command: name of the command, as in `python -m aekd_tf.experiments.<command>`.
    """

    def __init__(self, command: str):
        self.command = command
        self._values = flags.FlagValues()
        self._groups: dict[str, list[str]] = {}

    def add(
        self,
        group: str,
        kind: str,
        name: str,
        default: Any,
        text: str,
        shown: str | None = None,
        **options: Any,
    ) -> None:
        """Defines a flag.

        Args:
            group: heading in `--help` above the flag; empty for none.
            kind: kind of `absl.flags.DEFINE_<kind>`.
            name: name of the flag.
            default: value when the flag is not given.
            text: meaning of the flag.
            shown: the default in words.
            **options: further arguments of absl.
        """
        if shown is None:
            listed = ", ".join(default) if isinstance(default, list) else default
            shown = "none" if default is None else str(listed)
        define = getattr(flags, f"DEFINE_{kind}")
        define(name, default, f"{text} (default {shown})", flag_values=self._values, **options)
        self._groups.setdefault(group, []).append(name)

    @property
    def names(self) -> list[str]:
        """Returns the flags' names, in order."""
        return [name for names in self._groups.values() for name in names]

    @property
    def defaults(self) -> dict[str, Any]:
        """Returns the value of each flag when it is not given."""
        return {name: self._values[name].default for name in self.names}

    def help_text(self) -> str:
        """Returns the text of `--help`: this command's flags alone, by group."""
        lines = [f"usage: {invocation(self.command)} [--flag=value ...]", ""]
        indent = " " * 6
        for group, names in self._groups.items():
            lines += [group] if group else []
            for name in names:
                flag = self._values[name]
                lines.append(f"  --{name}" + (f", -{flag.short_name}" if flag.short_name else ""))
                lines += textwrap.wrap(
                    flag.help, 84, initial_indent=indent, subsequent_indent=indent
                )
            lines.append("")
        return "\n".join(lines).rstrip()

    def parse(self, arguments: Sequence[str]) -> dict[str, Any] | None:
        """Returns every flag's value by name; None for `--help`.

        Raises:
            UserError: an unknown flag, a value of the wrong kind.
        """
        if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in arguments):
            return None
        try:
            rest = self._values([self.command, *arguments])
        except flags.Error as error:
            raise UserError(f"{' '.join(str(error).split())} (--help lists the flags)") from error
        if len(rest) > 1:
            raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
        given = self._values.flag_values_dict()
        return {name: given[name] for name in self.names}
