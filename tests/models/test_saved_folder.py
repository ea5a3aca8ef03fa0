"""What a saved folder holds beside weights and configuration, and who runs the code in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

import tmt_geo
from tmt_geo import TMTModel
from tmt_geo.apps.model_folder import load_run
from tmt_geo.models.hub_files import CODE, CODE_FILE, remove_card
from tmt_geo.testing.tiny import VOCAB, tiny_config
from tmt_geo.train.checkpoint import MODEL_FILES

FILES = {"README.md", "config.json", "generation_config.json", "model.safetensors", CODE_FILE}
FRESH = """
import sys
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
import torch

assert "tmt_geo" not in sys.modules
known = {"dtype": "auto", "trust_remote_code": True}
folder, ids = sys.argv[1], torch.arange(12).unsqueeze(0)
auto, name = (AutoModel, "TMTBackbone") if len(sys.argv) > 2 else (AutoModelForCausalLM, "TMTForCausalLM")
model = auto.from_pretrained(folder, **known)
assert type(model).__name__ == name and type(model).__module__.startswith("tmt_geo.")
assert type(AutoConfig.from_pretrained(folder, trust_remote_code=True)) is type(model.config)
assert model.dtype == torch.bfloat16
assert model(ids).last_hidden_state.shape == (1, 12, 32)
model.save_pretrained(folder + "/again")
if auto is AutoModelForCausalLM:
    model.generate(ids, max_new_tokens=3)
"""
WITHOUT_TRUST = """
import sys
from transformers import AutoModel, AutoModelForCausalLM

try:
    AutoModelForCausalLM.from_pretrained(sys.argv[1])
except ValueError as error:
    assert "trust_remote_code=True" in str(error) and "tmt_geo" not in sys.modules
else:
    raise AssertionError("code of a folder must not run unasked")

import tmt_geo.models

for auto in (AutoModel, AutoModelForCausalLM):
    assert type(auto.from_pretrained(sys.argv[1])).__module__.startswith("tmt_geo.")
"""

NAMES = {
    "AutoConfig": "modeling_tmt_geo.TMTConfig", "AutoModel": "modeling_tmt_geo.TMTBackbone",
    "AutoModelForCausalLM": "modeling_tmt_geo.TMTForCausalLM",
}  # fmt: skip


def fresh(code, *arguments, home):
    """Runs code in a process of its own, offline."""
    root = str(Path(tmt_geo.__file__).parents[1])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "PYTHONPATH": root}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)


@pytest.fixture
def saved(tmp_path):
    TMTModel(tiny_config(copy_k=2)).bfloat16().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("arguments", [[], ["backbone"]], ids=["with its head", "backbone"])
def test_a_process_without_our_import_loads_it(saved, tmp_path, arguments):
    done = fresh(FRESH, saved, *arguments, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (saved / "again").iterdir()} >= FILES - {"generation_config.json"}
    assert not list((saved / "again").glob("*tmt.py")), "the code of the package must not be copied"


def test_without_trust_the_error_says_what_to_do_and_our_import_serves_too(saved, tmp_path):
    done = fresh(WITHOUT_TRUST, saved, home=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_a_folder_holds(saved):
    assert {path.name for path in saved.iterdir()} == FILES
    config = json.loads((saved / "config.json").read_text())
    assert config["auto_map"] == NAMES and config["architectures"] == ["TMTForCausalLM"]
    assert (saved / CODE_FILE).read_text() == CODE
    card = (saved / "README.md").read_text()
    parameters = TMTModel(tiny_config(copy_k=2)).num_parameters()
    assert f"| parameters | {parameters:,} |" in card and "| layers | 3 |" in card
    assert 'from_pretrained(folder, dtype="auto", trust_remote_code=True)' in card and "model.generate(" in card


def test_a_card_follows_the_model_and_a_readme_of_the_user_stays(saved):
    card = (saved / "README.md").read_text()
    TMTModel(tiny_config(n_layers=2)).save_pretrained(saved)
    assert "| layers | 2 |" in (saved / "README.md").read_text()
    for text in ("# Mine\n", card.replace("TemporalMesh Transformer", "My model"), ""):
        (saved / "README.md").write_text(text)
        TMTModel(tiny_config()).save_pretrained(saved)
        remove_card(saved)
        assert (saved / "README.md").read_text() == text


def test_shards_checkpoints_and_the_configuration_alone(tmp_path):
    model = TMTModel(tiny_config())
    model.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    arguments = TrainingArguments(tmp_path / "run", max_steps=1, report_to=[], use_cpu=True, save_steps=1)
    data = [{"input_ids": row, "labels": row} for row in torch.randint(VOCAB, (4, 12))]
    Trainer(model, arguments, train_dataset=data).train()
    model.config.save_pretrained(tmp_path / "config")
    assert CODE_FILE in MODEL_FILES  # of which a run that is overwritten is cleared
    for folder in (tmp_path / "shards", tmp_path / "run" / "checkpoint-1", tmp_path / "config"):
        assert json.loads((folder / "config.json").read_text())["auto_map"] == NAMES
        assert (folder / CODE_FILE).read_text() == CODE
        if folder.name != "config":
            assert (folder / "README.md").is_file()
            assert isinstance(AutoModelForCausalLM.from_pretrained(folder), TMTModel)


def test_another_process_writes_no_card(tmp_path):
    TMTModel(tiny_config()).save_pretrained(tmp_path, is_main_process=False)
    assert not list(tmp_path.iterdir())


def test_adapters_are_saved_alone(tmp_path):
    peft = pytest.importorskip("peft")
    model = TMTModel(tiny_config())
    model.add_adapter(peft.LoraConfig(target_modules=["lin_query"], r=2))
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert not any((tmp_path / name).exists() for name in ("config.json", "README.md", CODE_FILE))


def test_what_is_pushed_holds_the_code(tmp_path, monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError
    from transformers import modeling_utils

    class Api:
        def create_repo(self, repo_id, **kwargs):
            return type("Repo", (), {"repo_id": repo_id})()

    def upload(self, folder, repo_id, before, **kwargs):
        assert not before
        pushed.append({path.name for path in Path(folder).iterdir()})

    def no_card(*args, **kwargs):
        raise EntryNotFoundError("none")

    pushed = []
    monkeypatch.setattr(modeling_utils, "hf_api", Api)
    monkeypatch.setattr("transformers.utils.hub.ModelCard.load", no_card)
    monkeypatch.setattr(TMTModel, "_upload_modified_files", upload)
    TMTModel(tiny_config()).save_pretrained(tmp_path / "mine", push_to_hub=True)
    assert pushed and pushed[0] >= FILES


EVIL = """
from pathlib import Path

Path({mark!r}).write_text("run")
from tmt_geo.models import TMTBackbone, TMTConfig, TMTForCausalLM
"""


@pytest.mark.parametrize("model_type", ["tmt", "unknown"])
def test_our_own_loaders_never_run_code_of_a_folder(saved, tmp_path, model_type):
    mark = tmp_path / "mark"
    for name in (CODE_FILE, "tokenization_tmt_geo.py"):
        (saved / name).write_text(EVIL.format(mark=str(mark)))
    config = json.loads((saved / "config.json").read_text())
    config["auto_map"]["AutoTokenizer"] = ["tokenization_tmt_geo.TMTConfig", None]
    (saved / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(ValueError, match="with code of its own" if model_type != "tmt" else "tokenizer"):
        load_run(saved)
    if model_type == "tmt":
        assert AutoConfig.from_pretrained(saved).model_type == "tmt"
        TMTModel.from_pretrained(saved).save_pretrained(saved)
        assert (saved / CODE_FILE).read_text() == CODE
    assert not mark.exists()
