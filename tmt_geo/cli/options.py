"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[Path, typer.Argument(help="Folder of a trained model: of `train`, or of any Hugging Face causal LM.")]

Data = Annotated[
    str,
    typer.Option(
        help="Text: 'embedded' (Python's own reference pages), a .txt file, a folder with train.txt, valid.txt and "
        "test.txt, or a data set of the Hugging Face hub.",
        rich_help_panel="Data",
    ),
]
DataConfig = Annotated[
    str | None,
    typer.Option(help="Configuration of a hub data set, e.g. wikitext-2-raw-v1.", rich_help_panel="Data"),
]
TextColumn = Annotated[str, typer.Option(help="Text column of a hub data set.", rich_help_panel="Data")]
Streaming = Annotated[
    bool, typer.Option("--streaming", help="Stream a hub data set; needs --limit.", rich_help_panel="Data")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use at most this many documents a split.", rich_help_panel="Data")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what a former run left in the way.")]
