"""Flags generated from dataclasses: a field gives the name, the type and the default, its docstring the help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer


@dataclass(frozen=True)
class Flags:
    """Annotates a parameter of a command whose type is a dataclass: each field becomes a flag.

    Args:
        panel: Headline above the flags in the help.
        skip: Fields that the command sets itself.
    """

    panel: str | None = None
    skip: tuple[str, ...] = ()


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces each parameter that :class:`Flags` annotates by the flags of its dataclass.

    The command itself is called with the dataclass, built from the flags. A flag of type bool is ``--name``, and has a
    ``--no-name`` beside it where it is on, or undecided, without one.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, tuple[type, Flags]] = {}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        flags = next((part for part in get_args(hints[name]) if isinstance(part, Flags)), None)
        if flags is None:
            parameters.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))
        else:
            groups[name] = (get_args(hints[name])[0], flags)
            parameters += _parameters(*groups[name])

    @wraps(command)
    def flat(**values: Any) -> None:
        for name, (options, flags) in groups.items():
            own = {field.name: values.pop(field.name) for field in fields(options) if field.name not in flags.skip}
            values[name] = options(**own)
        command(**values)

    flat.__signature__ = Signature(parameters)
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def _parameters(options: type, flags: Flags) -> Iterator[Parameter]:
    hints, helps = get_type_hints(options, include_extras=True), described_arguments(options)
    for field in fields(options):
        if field.name in flags.skip:
            continue
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            option = typer.Option(*_names(field.name, hint, field.default), help=helps[field.name])
            option.rich_help_panel = flags.panel
            hint = Annotated[hint, option]
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)


def _names(name: str, hint: Any, default: Any) -> list[str]:
    """The names of a flag, none where typer finds the right ones by itself."""
    types = set(get_args(hint)) - {NoneType} if isinstance(hint, UnionType) else {hint}
    flag = f"--{name.replace('_', '-')}"
    return [flag] if types == {bool} and default is False else []


def described_arguments(options: type) -> dict[str, str]:
    """Returns what the part ``Args:`` of a class's docstring says of each argument, each in one line."""
    helps: dict[str, str] = {}
    for part in reversed(options.__mro__):
        arguments = re.search(r"^Args:\n(.*?)(?:\n\S|\Z)", inspect.getdoc(part) or "", re.DOTALL | re.MULTILINE)
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", arguments[1] if arguments else "", re.MULTILINE)
        helps |= {name: " ".join(text.replace("``", "").split()) for name, text in entries}
    return helps
