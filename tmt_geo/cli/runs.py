"""Reading and describing run folders: the model, its tokenizer and the options it was trained with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmt_geo.cli.screen import speaks

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SETTINGS_FILE = "train.yaml"


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


def check_out(out: Path, *, overwrite: bool, resume: bool) -> None:
    """Tells before any work whether a new run could be written.

    Args:
        out: Folder of the run; made where it is missing.
        overwrite: A run that is there may be replaced.
        resume: The run that is there goes on.

    Raises:
        ValueError: If ``out`` cannot be written, or holds files and neither of the two is set.
    """
    from tmt_geo.train.run_folder import prepare_out

    if speaks() and not (overwrite or resume):
        prepare_out(out, overwrite=False)


def check_same_run(out: Path, settings: dict[str, Any]) -> None:
    """Refuses to resume a run with another text or model than it began with.

    Raises:
        ValueError: If one of ``settings`` differs from what the run wrote; one that it did not write is not compared.
    """
    before = read_settings(out)
    for name, value in settings.items():
        if before and before.get(name) != value:
            raise ValueError(
                f"'resume' goes on with what the run began with, {name}={before.get(name)} (got {value}); "
                f"pass --config {out / SETTINGS_FILE}"
            )


def load_run(run: Path, tokenizer: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads a causal language model of any architecture and its tokenizer, ready for use.

    Args:
        run: Folder with ``config.json``, weights and, unless ``tokenizer`` is given, a tokenizer.
        tokenizer: Folder or hub name of another tokenizer.

    Returns:
        The model in evaluation mode, on the first GPU where there is one, and the tokenizer.

    Raises:
        ValueError: If the folder is no model, its weights are damaged or incomplete, or the tokenizer has ids that
            the model has no embedding for.
    """
    if not run.is_dir():
        raise ValueError(f"'run' must be the folder of a trained model, and there is no such folder (got {run})")
    if not (run / "config.json").is_file():
        raise ValueError(f"'run' holds no model, config.json is missing{_checkpoint_hint(run)} (got {run})")

    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    import tmt_geo.models  # noqa: F401  registers the model types
    from tmt_geo.data import load_tokenizer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            run, output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"'run' holds a model with code of its own, which is never run (got {run})") from error
    except SafetensorError as error:
        raise ValueError(f"'run' holds a damaged or truncated checkpoint (got {run}): {error}") from error
    except RuntimeError as error:
        if "mismatched" not in str(error):
            raise
        raise ValueError(f"'run' holds weights of other sizes than its config.json says (got {run})") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(f"'run' holds an incomplete checkpoint (got {run} without {len(missing)}: {missing[0]}, ...)")
    tokens = load_tokenizer(tokenizer or str(run))
    if len(tokens) > model.config.vocab_size:
        raise ValueError(
            f"'tokenizer' has ids out of range: the model knows {model.config.vocab_size} tokens (got {len(tokens)})"
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokens


def max_context(model: PreTrainedModel) -> int | None:
    """Returns the longest sequence that the model takes, ``None`` where its configuration states no limit."""
    return getattr(model.config, "max_position_embeddings", None)


def can_stream(num_blocks: int, batch_size: int) -> bool:
    """Whether there is text for each row of a batch to read on in, as a copy head's memory needs it."""
    return num_blocks >= batch_size * int(os.environ.get("WORLD_SIZE", 1))


def _checkpoint_hint(run: Path) -> str:
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    return f"; its last checkpoint is {checkpoints[-1].name}, or finish with `train --resume`" if checkpoints else ""
