"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="Folder of a trained model: of `train`, or of any Hugging Face causal LM.")]

Data = Annotated[
    str | None,
    typer.Option(
        help="Text: 'embedded' (Python's own reference pages), a .txt file, a folder with train.txt, valid.txt and "
        "test.txt, or a data set of the Hugging Face hub. Default: embedded; `evaluate` takes the text of the run.",
        rich_help_panel="Data",
    ),
]
DataConfig = Annotated[
    str | None,
    typer.Option(help="Configuration of a hub data set, e.g. wikitext-2-raw-v1.", rich_help_panel="Data"),
]
Tokenizer = Annotated[str | None, typer.Option(help="Another tokenizer: folder or hub name.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what a former run has written.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=4096, help="CPU threads; 1 is fastest where others use the cores.")
]


def use_threads(threads: int | None) -> None:
    """Sets the CPU threads of PyTorch; ``None`` leaves them as they are."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
