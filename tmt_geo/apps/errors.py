"""Which errors come from bad input, and what they say in one line."""

from __future__ import annotations


def input_errors() -> tuple[type[Exception], ...]:
    """Returns what bad input raises: wrong values, and files that cannot be read or written.

    Called when something has been raised already, so importing safetensors does not slow a start.
    """
    from safetensors import SafetensorError

    return (ValueError, OSError, SafetensorError)


def one_line(error: Exception | str) -> str:
    """Returns an error's message in one line, never empty."""
    return " ".join(str(error).split()) or type(error).__name__
