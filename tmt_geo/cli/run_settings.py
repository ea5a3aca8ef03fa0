"""The options of a run in its folder, in the form that ``--config`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SETTINGS_FILE = "train.yaml"
SAME_WHEN_RESUMED = ("data", "data_config", "text_column", "limit", "tokenizer", "vocab_size", "block_size", "seed")


def write_settings(run: Path, settings: dict[str, Any]) -> None:
    """Writes the options of a run as YAML into its folder, in a form that ``--config`` reads."""
    import yaml

    known = {name: value for name, value in settings.items() if value is not None}
    (run / SETTINGS_FILE).write_text(yaml.safe_dump(known, sort_keys=False), encoding="utf-8")


def read_settings(run: Path) -> dict[str, Any]:
    """Returns the options that ``train`` wrote into a run, empty where there are none (a model from elsewhere)."""
    import yaml

    path = run / SETTINGS_FILE
    if not path.is_file():
        return {}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"'run' holds settings that cannot be read (got {path}): {error}") from error
    return settings if isinstance(settings, dict) else {}


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
