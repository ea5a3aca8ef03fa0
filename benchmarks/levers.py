"""What each mechanism does at the size of the demo: one short run a row, on WikiText-2.

    python -m benchmarks.levers --data wikitext-2 --out benchmarks/results/levers

A finished row is not run again. A row says in which direction a lever pulls, not how far: one seed, little training.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from tmt_geo.data import byte_count, load_text, token_stream, tokenize_blocks, train_tokenizer, word_count
from tmt_geo.evaluate import evaluate_model, match_llama
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import TrainConfig, train_model

SIZE = {"d_model": 128, "n_layers": 4, "n_heads": 4, "max_seq_len": 256, "dropout": 0.0}
VOCAB_SIZE = 4096
VALID_TOKENS = 40_960

ROWS = {
    "llama": None,
    "default": {},
    "exit off": {"exit": False},
    "exit budget 0.5": {"exit_budget": 0.5},
    "mesh off": {"exit": False, "mesh": False, "decay": None},
    "window off": {"exit": False, "window": 0},
    "window 16": {"exit": False, "window": 16},
    "shift off": {"exit": False, "shift": False},
    "decay off": {"exit": False, "decay": None},
    "decay rate 8": {"exit": False, "decay_rate": 8.0},
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
    model = TMTModel(TMTConfig(vocab_size=vocab_size, **SIZE, **(options or {})))
    if options is not None:
        return model
    size = {name: SIZE[name] for name in ("d_model", "n_layers", "n_heads", "max_seq_len", "dropout")}
    torch.manual_seed(0)
    return match_llama(model.num_parameters(), vocab_size=vocab_size, **size)


def main() -> None:
    """Run the rows that have no result yet, then print them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wikitext-2")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/levers"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    splits = load_text(arguments.data)
    tokenizer = train_tokenizer(splits.train, vocab_size=VOCAB_SIZE)
    blocks = tokenize_blocks(splits.train, tokenizer, SIZE["max_seq_len"])
    valid = tokenizer.decode(token_stream(splits.valid, tokenizer)[:VALID_TOKENS])
    stream = token_stream([valid], tokenizer)
    for name in arguments.rows:
        path = arguments.out / f"{name.replace(',', '').replace(' ', '-')}.json"
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

    print(f"{'row':<22}{'parameters':>12}{'token ppl':>11}{'active':>8}{'MFLOP/token':>13}")
    for name in ROWS:
        path = arguments.out / f"{name.replace(',', '').replace(' ', '-')}.json"
        if path.exists():
            row = json.loads(path.read_text(encoding="utf-8"))
            valid = row["valid"]
            active = sum(valid["active_share"]) / len(valid["active_share"])
            print(
                f"{name:<22}{row['params']:>12,}{valid['token_ppl']:>11.1f}{active:>8.2f}"
                f"{valid['flops_per_token'] / 1e6:>13.2f}"
            )


if __name__ == "__main__":
    main()
