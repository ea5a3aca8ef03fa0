"""The options of a run in its folder, in the form that ``--config`` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tmt_geo.train.config import SETTINGS_FILE
from tmt_geo.train.writing import write_text

TEXT = ("data", "data_config", "text_column", "limit", "tokenizer", "vocab_size", "block_size")
TYPES = {"data": str, "data_config": str, "text_column": str, "streaming": bool, "limit": int, "block_size": int}
SAME_WHEN_RESUMED = (*TEXT, "batch_size", "grad_accum", "seed")  # what is read next follows from them


def write_settings(run: Path, settings: dict[str, Any]) -> None:
    """Writes the options of a run as YAML into its folder, in a form that ``--config`` reads."""
    import yaml

    known = {name: value for name, value in settings.items() if value is not None}
    write_text(run / SETTINGS_FILE, yaml.safe_dump(known, sort_keys=False))


def read_settings(run: Path) -> dict[str, Any]:
    """Returns the options that ``train`` wrote into a run, empty where there are none (a model from elsewhere)."""
    import yaml

    path = run / SETTINGS_FILE
    if not os.path.lexists(path):
        return {}
    try:
        if not path.is_file():  # a pipe would wait for ever
            raise ValueError("it is no file")
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it is no mapping of names to values")
        for name, value in settings.items():
            if not isinstance(value, TYPES.get(name, object)):
                raise ValueError(f"{name} has a value that it cannot have")
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"'run' holds settings that cannot be read: {reason} (got {path})") from error
    return settings


def check_same_run(out: Path, settings: dict[str, Any]) -> None:
    """Refuses to resume a run with another text or seed than it began with.

    Raises:
        ValueError: If one of ``SAME_WHEN_RESUMED`` differs from what the run wrote. A run that wrote no settings is
            not compared.
    """
    before = read_settings(out)
    for name in SAME_WHEN_RESUMED:
        value = settings[name]
        if before and before.get(name) != value:
            raise ValueError(
                f"'resume' goes on with what the run began with, {name}={before.get(name)} (got {value}); "
                f"pass --config {out / SETTINGS_FILE}"
            )
