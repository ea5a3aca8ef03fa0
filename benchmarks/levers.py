"""What each mechanism does at the size of the demo: one short run a row, on WikiText-2.

    python -m benchmarks.levers --data wikitext-2 --readme

`wikitext-2` is a folder with train.txt, valid.txt and test.txt; hub names work too. A finished row is not run again. A
row says in which direction a lever pulls, not how far: one seed, little training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.readme import write_between
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.data import byte_count, load_text, token_stream, tokenize_blocks, train_tokenizer, word_count
from tmt_geo.evaluate import evaluate_model, match_llama
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import TrainConfig, train_model

SIZE = {"d_model": 128, "n_layers": 4, "n_heads": 4, "max_seq_len": 256, "dropout": 0.0}
DEFAULTS = {"window": 8, "gated_heads": False, "gated_streams": False}  # of the package when this was measured
VOCAB_SIZE = 4096
VALID_TOKENS = 40_960
RESULTS = Path(__file__).parent / "results" / "levers"
MARKS = ("<!-- levers -->", "<!-- end of levers -->")

ROWS = {
    "llama": None,
    "default": {},
    "exit off": {"exit": False},
    "exit budget 0.75": {"exit_budget": 0.75},
    "exit momentum 0.2": {"exit_momentum": 0.2},
    "mesh off": {"exit": False, "mesh": False, "decay": None},
    "window off": {"exit": False, "window": 0},
    "shift off": {"exit": False, "shift": False},
    "decay off": {"exit": False, "decay": None},
    "decay rate 8": {"exit": False, "decay_rate": 8.0},
    "index of 64 channels": {"exit": False, "index_dim": 64},
    "mesh for 2 layers": {"exit": False, "rebuild_every": 2},
    "anchors off": {"exit": False, "memory_anchors": 0},
    "single stream": {"exit": False, "dual_stream": False},
    "published, no exits": {
        "exit": False,
        "window": 0,
        "shift": False,
        "decay": "published",
        "decay_rate": 0.1,
    },
}


def build(options: dict | None, vocab_size: int):
    """The model of a row; the Llama has as many parameters as the default row."""
    torch.manual_seed(0)
    model = TMTModel(TMTConfig(vocab_size=vocab_size, **SIZE, **DEFAULTS | (options or {})))
    if options is not None:
        return model
    torch.manual_seed(0)
    return match_llama(model.num_parameters(), vocab_size=vocab_size, **SIZE)


def result_file(folder: Path, row: str) -> Path:
    """Where the result of a row is kept."""
    return folder / f"{row.replace(',', '').replace(' ', '-')}.json"


def table(folder: Path) -> str:
    """All finished rows as a table in Markdown."""
    lines = []
    for name in ROWS:
        path = result_file(folder, name)
        if not path.exists():
            continue
        row = json.loads(path.read_text(encoding="utf-8"))
        valid = row["valid"]
        active = sum(valid["active_share"]) / len(valid["active_share"])
        perplexities = [f"{valid['token_ppl']:.1f}", f"{valid['word_ppl']:.0f}"]
        operations = [f"{valid[key] / 1e6:.2f}" for key in ("flops_per_token", "flops_per_token_head")]
        lines.append([name, f"{row['params']:,}", *perplexities, f"{active:.2f}", *operations])
    head = ["row", "parameters", "token ppl", "word ppl", "active share", "MFLOP a token, layers", "head"]
    return markdown_table(head, lines)


def main() -> None:
    """Run the rows that have no result yet, then print them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wikitext-2")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--readme", action="store_true", help="put the table into README.md")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    splits = load_text(arguments.data)
    tokenizer = train_tokenizer(splits.train, vocab_size=VOCAB_SIZE)
    blocks = tokenize_blocks(splits.train, tokenizer, SIZE["max_seq_len"])
    valid = tokenizer.decode(token_stream(splits.valid, tokenizer)[:VALID_TOKENS])
    stream = token_stream([valid], tokenizer)
    for name in arguments.rows:
        path = result_file(arguments.out, name)
        if path.exists():
            continue
        model = build(ROWS[name], len(tokenizer))
        with tempfile.TemporaryDirectory() as out:
            config = TrainConfig(out=out, steps=arguments.steps, threads=arguments.threads, log_every=50)
            result = train_model(model, None, blocks, None, config)
        report = evaluate_model(model, stream, words=word_count([valid]), bytes=byte_count([valid]))
        row = {"row": name, "options": ROWS[name], "steps": arguments.steps, "seed": config.seed}
        row |= {"params": model.num_parameters(), "train_tokens_per_second": result.tokens_per_second}
        if getattr(model.config, "memory_anchors", 0):
            ranks = [int(torch.linalg.matrix_rank(layer.memory.anchors)) for layer in model.encoder.layers]
            row |= {"anchor_rank": ranks}
        row |= {"valid": asdict(report), "history": result.history}
        path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        print(name, report.token_ppl, report.active_share, flush=True)

    print(table(arguments.out))
    if arguments.readme:
        write_between(MARKS, table(arguments.out))


if __name__ == "__main__":
    main()
