"""Tampered folders of a small trained run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hostile import damage, weights

GENERATE = ("generate", "RUN", "the fox", "--sample", "--seed", "1", "--temperature", "2", "--max-new-tokens", "8")
EVALUATE = ("evaluate", "RUN", "--limit", "1", "--batch-size", "64", "--stride", "32", "--context", "32")
INSPECT = ("inspect", "the lazy fox of 7", "--model", "RUN", "--out", "PLACE/page.html")

MODEL = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
BESIDE = ("history.json", "train_config.json", "trainer_state.json", "training_args.bin", "report.html", "README.md")
BESIDE += ("modeling_tmt_geo.py", "train.yaml")
JSON = (
    "config.json",
    "config.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
JSON += ("history.json", "train_config.json", "trainer_state.json")
HUGE = (
    "graph_k",
    "window",
    "num_hidden_layers",
    "hidden_size",
    "vocab_size",
    "max_position_embeddings",
    "memory_anchors",
    "copy_k",
    "copy_dim",
    "copy_memory",
    "mesh_memory",
    "memory_k",
    "ffn_stream_dim",
    "intermediate_size",
    "index_dim",
    "num_attention_heads",
    "exit_after",
    "rebuild_every",
    "memory_layers",
    "num_key_value_heads",
)


@dataclass(frozen=True)
class Tampering:
    """A change of a folder, and what is then called.

    Args:
        name: Its kind.
        change: Makes it.
        alone: Remove the record of the files too: what is wrong has to be found in the files themselves. That is not
            asked for where they are still those of a model, only of another one.
        command: What is called.
    """

    name: str
    change: Callable[[Path, random.Random], None]
    alone: bool = False
    command: tuple[str, ...] = GENERATE


def _code(folder: Path, draw: random.Random) -> None:
    """Code in every place where a library could look for it."""
    for name in ("modeling_tmt_geo.py", "tokenization_evil.py", "custom_generate/generate.py", "tokenizer.py"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(damage.code_of(folder))
    kind = draw.choice(["auto_map", "model type", "tokenizer", "tokenizer class", "adapter", "quantization"])
    config, tokenizer = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    if kind == "model type":
        config["model_type"] = draw.choice(["unknown", "tmt2", "", None, 3, "llama", "quartic"])
    if kind == "tokenizer":
        tokenizer["auto_map"] = {"AutoTokenizer": ["tokenization_evil.TMTConfig", "tokenization_evil.TMTConfig"]}
    if kind == "tokenizer class":
        config["auto_map"]["AutoTokenizer"] = ["tokenization_evil.TMTConfig", None]
        tokenizer["tokenizer_class"] = draw.choice(["Evil", "TMTConfig", "BertTokenizer", "LlamaTokenizer", 3])
    if kind == "adapter":
        adapter = {"base_model_name_or_path": draw.choice([str(folder), "nobody/nothing", "/"]), "peft_type": "LORA"}
        (folder / "adapter_config.json").write_text(json.dumps(adapter))
    if kind == "quantization":
        method = draw.choice(["bitsandbytes", "gptq", "awq", "unknown", None, 7])
        config["quantization_config"] = {"quant_method": method, "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def _bin(folder: Path, draw: random.Random) -> None:
    """Weights as a pickle with code."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    damage.pickled_code(folder / "pytorch_model.bin", draw)


def _another_tokenizer(folder: Path, draw: random.Random) -> None:
    """A tokenizer of the same size with other tokens, or the same in another order."""
    content = _json(folder / "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    names = [name for name in vocabulary if vocabulary[name]]
    order = [vocabulary[name] for name in names]
    draw.shuffle(order)
    content["model"]["vocab"] |= dict(zip(names, order, strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def _tokenizer_of_size(folder: Path, draw: random.Random) -> None:
    """A tokenizer with fewer tokens or more."""
    content = _json(folder / "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    if draw.random() < 0.5:
        vocabulary |= {f"more{n}": len(vocabulary) + n for n in range(50)}
    else:
        content["model"]["vocab"] = dict(list(vocabulary.items())[:20])
        content["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def _huge(folder: Path, draw: random.Random, name: str) -> None:
    config = _json(folder / "config.json")
    config[name] = draw.choice([10**8, 10**8, 10**12, 2**63, 2**31])
    (folder / "config.json").write_text(json.dumps(config))


def _layers(folder: Path, draw: random.Random) -> None:
    """The configuration has fewer layers than the weights, or more."""
    config = _json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": draw.choice([1, 3])}))


def _yaml(folder: Path, draw: random.Random) -> None:
    """Settings with code, of other types, deep or endless."""
    mark = damage.mark_of(folder)
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
    )
    texts = [
        f"data: !!python/object/apply:os.system ['touch {mark}']\n",
        "data: [1, 2]\n",
        "data: {a: {b: c}}\n",
        "- 1\n",
        "block_size: 1000000000000\n",
        "block_size: -5\n",
        "block_size: x\n",
        "block_size: .nan\n",
        "data: /dev/zero\n",
        "data: nothing.txt\n",
        "limit: -1\n",
        "limit: abc\n",
        "limit: 1000000000000\n",
        "text_column: 7\n",
        "\ud83e: \x07",
        "data: !!binary |\n  /////w==\n",
        "[" * 50_000,
        "? " * 5_000,
        bomb,
        "data: 7\n",
        "streaming: yes please\n",
        "data: ''\n",
    ]
    (folder / "train.yaml").write_text(draw.choice(texts), encoding="utf-8", errors="surrogatepass")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _file(way: damage.Damage, name: str, folder: Path, draw: random.Random) -> None:
    way(folder / name, draw)


def _tensors(way: Callable[..., None], folder: Path, draw: random.Random) -> None:
    weights.changed(folder / "model.safetensors", way, draw)


def kinds() -> list[Tampering]:
    """All kinds, each with its own name."""
    found = [
        Tampering(f"{way.__name__} {name}", partial(_file, way, name), command=command)
        for names, command in ((MODEL, GENERATE), (BESIDE, EVALUATE))
        for name in names
        for way in damage.ANY_FILE
    ]
    found += [Tampering(f"linked {name}", partial(_file, damage.linked, name)) for name in MODEL]
    found += [Tampering(f"other value {name}", partial(_file, damage.other_value, name)) for name in JSON]
    found += [Tampering(f"without value {name}", partial(_file, damage.without_value, name)) for name in JSON]
    found += [Tampering(way.__name__, partial(_tensors, way)) for way in weights.IN_TENSORS]
    found += [Tampering(f"{way.__name__}, alone", partial(_tensors, way), alone=True) for way in weights.TELLING]
    found += [Tampering(f"huge {name}", partial(_huge, name=name)) for name in HUGE[:3]]
    found += [Tampering(f"huge {name}, alone", partial(_huge, name=name), alone=True) for name in HUGE]
    found += [Tampering("code", _code, command=command) for command in (GENERATE, EVALUATE, INSPECT)]
    found += [Tampering("code, alone", _code, alone=True)] * 3
    for name, change in {"pickled weights": _bin, "layers": _layers}.items():
        found += [Tampering(name, change), Tampering(f"{name}, alone", change, alone=True)]
    found += [Tampering("another tokenizer", _another_tokenizer, command=command) for command in (GENERATE, EVALUATE)]
    found += [Tampering("tokenizer of another size", _tokenizer_of_size)]
    found += [
        Tampering("header", partial(_file, weights.header, "model.safetensors"), alone=alone)
        for alone in (False, True)
    ]
    found += [Tampering("shards elsewhere", weights.index_elsewhere, alone=alone) for alone in (False, True)]
    found += [Tampering("settings", _yaml, command=EVALUATE)] * 8
    return found


def tamperings(count: int, seed: int) -> Iterator[tuple[Tampering, random.Random]]:
    """So many of them, every kind as often as any other, each with its own source of chance."""
    draw, pool = random.Random(seed), []
    for number in range(count):
        if not pool:
            pool = kinds()
            draw.shuffle(pool)
        yield pool.pop(), random.Random(f"{seed}-{number}")
