"""``tmt-geo generate``: continue a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tmt_geo.cli.options import Run
from tmt_geo.cli.runs import load_run, max_context

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def generate(
    run: Run,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 60,
    sample: Annotated[bool, typer.Option("--sample", help="Draw tokens at random instead of the likeliest.")] = False,
    temperature: Annotated[float | None, typer.Option(help="With --sample: below 1 bolder, above 1 wilder.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="With --sample: from the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="With --sample: from the likeliest of this total mass.")] = None,
    beams: Annotated[int, typer.Option(min=1, help="Beams to search with; 1 is no beam search.")] = 1,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 discourages repetition.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    tokenizer: Annotated[str | None, typer.Option(help="Another tokenizer: folder or hub name.")] = None,
) -> None:
    """Continue a prompt: greedy by default, or by --sample, or by --beams.

    Only the text goes to standard output, prompt included.
    """
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    given = [name for name, value in sampling.items() if value is not None]
    if given and not sample:
        raise ValueError(f"'{given[0]}' needs --sample (got --{given[0].replace('_', '-')} without it)")
    model, tokens = load_run(run, tokenizer)
    options = {**sampling, "do_sample": sample, "num_beams": beams, "repetition_penalty": repetition_penalty}
    typer.echo(continue_text(model, tokens, prompt, max_new_tokens=max_new_tokens, seed=seed, **options))


def continue_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    *,
    max_new_tokens: int,
    seed: int = 0,
    **options: object,
) -> str:
    """Returns the prompt with what the model continues it with.

    Args:
        model: Any causal language model.
        tokenizer: Its tokenizer.
        prompt: The text to continue; an empty one starts from the tokenizer's first-of-text token.
        max_new_tokens: Tokens to write at most; fewer where the model ends the text.
        seed: Seed of the sampling.
        options: Handed to ``model.generate``, those that are ``None`` left out.

    Raises:
        ValueError: If prompt and new tokens exceed the longest sequence that the model takes.
    """
    import torch
    from transformers import set_seed

    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids.long()
    if ids.numel() == 0:
        ids = torch.tensor([[tokenizer.bos_token_id or tokenizer.eos_token_id or 0]])
    limit = max_context(model)
    if limit is not None and ids.size(1) + max_new_tokens > limit:
        wanted = f"{ids.size(1)} tokens of prompt + {max_new_tokens}"
        raise ValueError(f"'max_new_tokens' exceeds with the prompt the model's max_seq_len={limit} (got {wanted})")
    ids = ids.to(model.device)
    set_seed(seed)
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            **{name: value for name, value in options.items() if value is not None},
        )
    return tokenizer.decode(out[0], skip_special_tokens=True)
