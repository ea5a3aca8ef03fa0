"""Options from a YAML file, and back: ``--config`` reads what a finished run wrote."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import typer


def read_config(path: Path, allowed: Collection[str]) -> dict[str, Any]:
    """Reads a flat YAML mapping of option names to values.

    Args:
        path: The file. Names are those of the flags, with ``_`` or ``-``: ``max_seq_len: 256``.
        allowed: The names that the command knows.

    Returns:
        Name (with ``_``) to value.

    Raises:
        ValueError: If the file cannot be read, is not such a mapping, or holds an unknown name.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"'config' cannot be read: {error.strerror} (got {path})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'config' is not YAML in UTF-8 (got {path}): {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"'config' must be a YAML mapping of option names to values (got {type(content).__name__})")
    options = {str(name).replace("-", "_"): value for name, value in content.items()}
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ValueError(f"'config' holds an unknown option (got {', '.join(unknown)} in {path})")
    return options


def use_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Callback of ``--config``: makes the file's values the defaults of the command, so that flags win over them."""
    if path is not None:
        names = {parameter.name for parameter in ctx.command.params} - {"config"}
        ctx.default_map = read_config(path, names)
    return path
