"""What the package needs for some of its uses alone, and the name of the extra that brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class MissingExtra(ImportError, ValueError):
    """A package is missing that one of the extras brings; the message is one line and says what to install."""

    def __init__(self, purpose: str, extra: str, missing: str):
        super().__init__(f'{purpose} needs the extra {extra}: pip install "tmt-geo[{extra}]" (got no {missing})')


def check_extra(purpose: str, extra: str, *packages: str) -> None:
    """Checks before any work that packages are there.

    Args:
        purpose: What needs them.
        extra: The extra that brings them, as ``pyproject.toml`` names it.
        packages: Their names, as they are imported.

    Raises:
        MissingExtra: If one of them is.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MissingExtra(purpose, extra, ", ".join(missing))


@contextmanager
def needs_extra(purpose: str, extra: str) -> Iterator[None]:
    """Around the import of a package that an extra brings: raises MissingExtra where there is none."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(purpose, extra, str(error.name)) from error
