"""The table of commands. Each is called as `<group> <name>` and is defined, with its arguments, in its own module."""

import argparse
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tracking.infra.postgres import Pool


@dataclass(frozen=True, slots=True)
class Command:
    """A command. `run(arguments, write, read)` returns the exit status; a pool connects at its first use."""

    group: str
    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Pool, Pool], Awaitable[int]]
    statement_timeout_s: float = 30


def parse_arguments(commands: Sequence[Command], words: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Return the command that the words name, and its arguments.

    Words that cannot be parsed end the process with status 2 and a usage message.
    """
    parser = argparse.ArgumentParser(prog="volcanion", description="Operate Volcanion Tracking.")
    groups = parser.add_subparsers(metavar="command", required=True)
    names: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for command in commands:
        if command.group not in names:
            members = [other for other in commands if other.group == command.group]
            group = groups.add_parser(command.group, help="; ".join(other.summary for other in members))
            names[command.group] = group.add_subparsers(
                metavar="|".join(other.name for other in members), required=True
            )
        own = names[command.group].add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(own)
        own.set_defaults(chosen=command)
    arguments = parser.parse_args(words)
    return arguments.chosen, arguments
