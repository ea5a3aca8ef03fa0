"""Loading a trained model and its tokenizer from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def load_run(run: Path, tokenizer: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Loads a causal language model of any architecture and its tokenizer, ready for use.

    No code in the folder is run, whatever its files say.

    Args:
        run: Folder with ``config.json``, weights and, unless ``tokenizer`` is given, a tokenizer.
        tokenizer: Folder or hub name of another tokenizer.

    Returns:
        The model in evaluation mode, on the first GPU where there is one, and the tokenizer.

    Raises:
        ValueError: If the folder is no model, it is not as training left it, its weights are damaged, incomplete, not
            finite or those of another model, or the tokenizer is not that of the model.
    """
    if not run.is_dir():
        raise ValueError(f"'run' must be the folder of a trained model, and there is no such folder (got {run})")
    if not (run / "config.json").is_file():
        raise ValueError(f"'run' holds no model, config.json is missing{_checkpoint_hint(run)} (got {run})")
    _check_unchanged(run)

    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    import tmt_geo.models  # noqa: F401  registers the model types

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            run, output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged file fails in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"'run' holds {_fault(error)}{_checkpoint_hint(run)} (got {run}: {reason})") from error
    model, info = loaded
    _check_weights(run, model, info)
    tokens = _tokenizer(run, tokenizer)
    if len(tokens) > model.config.vocab_size:
        raise ValueError(
            f"'tokenizer' has ids out of range: the model knows {model.config.vocab_size} tokens (got {len(tokens)})"
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokens


def max_context(model: PreTrainedModel) -> int | None:
    """Returns the longest sequence that the model takes, ``None`` where its configuration states no limit."""
    return getattr(model.config, "max_position_embeddings", None)


def _check_unchanged(run: Path) -> None:
    from tmt_geo.train.checkpoint import INDEX_FILE, LOADED_FILES, read_shapes
    from tmt_geo.train.digests import DIGESTS_FILE, check_digests

    try:
        check_digests(run, LOADED_FILES)
    except ValueError as error:
        hint = f"if that was meant, remove {DIGESTS_FILE}{_checkpoint_hint(run)}"
        raise ValueError(f"'run' has changed since it was trained: {error}; {hint} (got {run})") from error
    if (run / INDEX_FILE).exists():
        try:
            read_shapes(run)
        except ValueError as error:
            raise ValueError(f"'run' holds a damaged or truncated checkpoint: {error} (got {run})") from error
    if (run / "adapter_config.json").exists():
        raise ValueError(f"'run' must be a whole model, merge its adapter first (got adapter_config.json in {run})")


def _fault(error: Exception) -> str:
    """What a folder holds that a library could not load."""
    from safetensors import SafetensorError

    if isinstance(error, SafetensorError):
        return "a damaged or truncated checkpoint"
    if "trust_remote_code" in str(error):
        return "a model with code of its own, which is never run"
    if "mismatched" in str(error):
        return "weights of other sizes than its config.json says"
    return "no model that loads"


def _check_weights(run: Path, model: PreTrainedModel, info: dict[str, Any]) -> None:
    from tmt_geo.train.checkpoint import first_not_finite

    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"'run' holds an incomplete checkpoint (got {run} without {len(missing)}: {missing[0]}, ...)")
    if extra := sorted(info["unexpected_keys"]):
        raise ValueError(
            f"'run' holds weights that its config.json does not know (got {len(extra)} in {run}: {extra[0]}, ...)"
        )
    if name := first_not_finite(model):
        raise ValueError(f"'run' holds weights that are not finite (got {name} in {run})")


def _tokenizer(run: Path, other: str | None) -> PreTrainedTokenizerFast:
    from tmt_geo.data import load_tokenizer

    if other is None:
        return load_tokenizer(run)
    tokens = load_tokenizer(other)
    if (run / "tokenizer.json").is_file():
        own = load_tokenizer(run).get_vocab()
        if len(own) == len(tokens) and own != tokens.get_vocab():
            raise ValueError(
                f"'tokenizer' has other tokens than the one that the model was trained with (got {other})"
            )
    return tokens


def _checkpoint_hint(run: Path) -> str:
    from tmt_geo.train.checkpoint import checkpoint_folders

    checkpoints = checkpoint_folders(run)
    return f"; its last checkpoint is {checkpoints[-1].name}, or finish with `train --resume`" if checkpoints else ""
