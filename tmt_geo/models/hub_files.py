"""What a saved folder holds beside weights and configuration: code for the ``Auto`` classes, and a model card."""

from __future__ import annotations

from hashlib import sha256
from os import PathLike
from pathlib import Path

from transformers import PreTrainedModel

CODE_FILE = "modeling_tmt_geo.py"
CODE = '''"""The classes of this model, from the installed package tmt_geo.

Hugging Face's Auto classes run this file with trust_remote_code=True. After `import tmt_geo.models` they need neither.
"""

from tmt_geo.models import QuarticConfig, QuarticModel, TMTBackbone, TMTConfig, TMTForCausalLM

__all__ = ["QuarticConfig", "QuarticModel", "TMTBackbone", "TMTConfig", "TMTForCausalLM"]
'''

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- tmt
- tmt_geo
---

# TemporalMesh Transformer

A causal language model of the package `tmt_geo`. Its tokens attend along a graph of nearest neighbors that every layer
builds anew.

| | |
| --- | --- |
{rows}

Training data and evaluation are not recorded here.

## Load

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "path/to/this/folder"
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder)  # if a tokenizer was saved with the model
```

`tmt_geo` must be installed: the code in this folder only imports it. After `import tmt_geo.models` no
`trust_remote_code` is needed. `AutoModel` in place of `AutoModelForCausalLM` gives hidden states.

## Generate

```python
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))
```
"""


def auto_map(classes: dict[str, str]) -> dict[str, str]:
    """Where a saved folder has these classes, by the ``Auto`` classes that look for them."""
    return {auto: f"{Path(CODE_FILE).stem}.{name}" for auto, name in classes.items()}


def write_code(folder: str | PathLike) -> None:
    """Put the code to which :func:`auto_map` refers into a folder."""
    (Path(folder) / CODE_FILE).write_text(CODE, encoding="utf-8")


def write_card(model: PreTrainedModel, folder: str | PathLike) -> None:
    """Put a model card into a folder, unless a README.md is there that this function has not written as it stands."""
    path, text = Path(folder) / "README.md", CARD.format(rows=_rows(model))
    if not path.exists() or (path.is_file() and _is_signed(path.read_bytes())):
        path.write_bytes(_signed(text.encode()))


def remove_card(folder: str | PathLike) -> None:
    """Remove the model card of a folder, where it stands as :func:`write_card` has written it."""
    path = Path(folder) / "README.md"
    if path.is_file() and _is_signed(path.read_bytes()):
        path.unlink()


def _rows(model: PreTrainedModel) -> str:
    config = model.config
    facts = {
        "class": type(model).__name__,
        "parameters": f"{model.num_parameters():,}",
        "channels": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "vocabulary": f"{config.vocab_size:,}",
        "longest sequence": f"{config.max_position_embeddings:,} tokens",
        "nearest neighbors a token": config.graph_k if config.mesh else "none: dense attention",
        "previous tokens a token": config.window if config.mesh else "all",
        "exit rule": config.gate_rule or "none",
        "memory anchors a layer": config.memory_anchors or "none",
        "votes of the copy head": config.copy_k or "none",
    }
    return "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())


def _signed(text: bytes) -> bytes:
    return text + f"\n<!-- tmt_geo {sha256(text).hexdigest()} -->\n".encode()


def _is_signed(card: bytes) -> bool:
    return card == _signed(card.rpartition(b"\n<!-- tmt_geo ")[0])
