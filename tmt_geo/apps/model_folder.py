"""Loading a trained model and its tokenizer from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


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
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            run, output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"'run' holds a model with code of its own, which is never run (got {run})") from error
    except SafetensorError as error:
        hint = _checkpoint_hint(run)
        raise ValueError(f"'run' holds a damaged or truncated checkpoint{hint} (got {run}): {error}") from error
    except OSError as error:
        if not (hint := _checkpoint_hint(run)):
            raise
        raise ValueError(f"'run' holds no model yet{hint} (got {run}): {error}") from error
    except RuntimeError as error:
        if "mismatched" not in str(error):
            raise
        raise ValueError(f"'run' holds weights of other sizes than its config.json says (got {run})") from error
    model, info = loaded
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


def _checkpoint_hint(run: Path) -> str:
    from tmt_geo.train.checkpoint import checkpoint_folders

    checkpoints = checkpoint_folders(run)
    return f"; its last checkpoint is {checkpoints[-1].name}, or finish with `train --resume`" if checkpoints else ""
