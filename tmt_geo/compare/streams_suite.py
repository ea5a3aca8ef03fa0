"""Long documents read in order, and what remembers their beginning: the mesh, dense attention or a copy head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tmt_geo.compare.language import LanguageRow, LanguageSuite
from tmt_geo.compare.shared_options import ALONE, COPY, COPY_RATE, SENTINEL, SIZE, TINY
from tmt_geo.evaluate.far_names import identifiers, names

# Dense attention over what is remembered too, as in Transformer-XL.
DENSE = {"mesh": False, "content_mesh": False, "decay": None}


def _remembering(nodes: int) -> dict[str, Any]:
    """A mesh memory of so many nodes, which the token that ends a document clears (0 in every vocabulary here)."""
    return {"mesh_memory": nodes, "eos_token_id": 0}


def _copying(nodes: int) -> dict[str, Any]:
    """A copy head that remembers so many tokens."""
    return {**COPY, **SENTINEL, "copy_memory": nodes}


def _context(length: int) -> dict[str, int]:
    """Sequences of another length, at equal tokens in all, and in a step where that holds one such sequence."""
    rows = max(1, TINY.block_size * TINY.batch_size // length)
    steps = TINY.steps * TINY.block_size * TINY.batch_size // (rows * length)
    return {"block_size": length, "batch_size": rows, "stride": length, "steps": steps}


STREAMS = LanguageSuite(
    name="streams",
    about="Novels read in order: what a mesh gains by finding nodes of the text before its sequence, and what a copy "
    "head does that remembers as much.",
    rows=(
        LanguageRow("mesh", options=ALONE),
        LanguageRow("mesh, memory of 1,024", options={**ALONE, **_remembering(1024)}),
        LanguageRow("mesh, memory of 8,192", options={**ALONE, **_remembering(8192)}),
        LanguageRow("dense, memory of 1,024", options={**ALONE, **DENSE, **_remembering(1024)}),
        LanguageRow("dense, memory of 8,192", options={**ALONE, **DENSE, **_remembering(8192)}),
        LanguageRow("llama", family="llama"),
        LanguageRow("llama, 1,024 tokens", family="llama", recipe=_context(1024)),
        LanguageRow("llama, 4,096 tokens", family="llama", recipe=_context(4096)),
        LanguageRow("mistral, window of 24", family="mistral", options={"keys": 24}),
        *(LanguageRow(f"mesh, copy head of {n:,}", options={**ALONE, **_copying(n)}) for n in (0, 2048, 8192)),
        *(LanguageRow(f"llama, copy head of {n:,}", family="llama", options=_copying(n), recipe=COPY_RATE)
          for n in (0, 2048, 8192)),
        LanguageRow("mesh, memory and copy head of 8,192", options={**ALONE, **_copying(8192), **_remembering(8192)}),
    ),
    recipe=replace(TINY, valid_tokens=200_000),
    full=SIZE,
    baseline="mesh",
    tested=False,
    names=names,
)  # fmt: skip

CODE = replace(
    STREAMS,
    name="code",
    about="The same with Python's own standard library, split by package. Names are words of identifiers.",
    names=identifiers,
)
