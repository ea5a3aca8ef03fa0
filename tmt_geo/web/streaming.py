"""A continuation that grows on the page while the model generates it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import TextIteratorStreamer

from tmt_geo.apps.continuation import continue_text
from tmt_geo.web.figures import check_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def stream_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """Continues a text, and yields it after each word.

    Closing the iterator stops the generation after the token that is being computed.

    Args:
        model: Any causal language model.
        tokenizer: Its tokenizer.
        prompt: The text to continue.
        max_new_tokens: Tokens to generate at most.
        temperature: Of the sampling; 0 always takes the likeliest token.
        seed: Of the sampling.

    Yields:
        The prompt with its continuation so far; the last is what :func:`tmt_geo.apps.continuation.continue_text`
        returns.

    Raises:
        ValueError: If the text is too long, by itself or with the new tokens.
    """
    streamer = TextIteratorStreamer(tokenizer, skip_special_tokens=True)
    closed = Event()
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    options = {"max_new_tokens": max_new_tokens, "seed": seed, "stopping_criteria": [_when(closed)], **sampling}
    check_text(prompt)
    with ThreadPoolExecutor(max_workers=1) as pool:
        result = pool.submit(continue_text, model, tokenizer, prompt, streamer=streamer, **options)
        # An error in the other thread must end the stream too, or this one would wait for ever.
        result.add_done_callback(lambda _: streamer.end())
        try:
            text = ""
            for piece in streamer:
                text += piece
                yield text
        finally:
            closed.set()
        yield result.result()


def _when(event: Event):
    """A criterion that stops all sequences once something has happened."""

    def stop(input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        return torch.full((input_ids.size(0),), event.is_set(), device=input_ids.device)

    return stop
