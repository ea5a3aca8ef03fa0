"""The standard library as a corpus: by package, without tests, in one order."""

import hashlib
import logging

import pytest

from tmt_geo.data import load_text
from tmt_geo.data.standard_library import load_standard_library, split_of


def test_every_file_is_in_the_split_of_its_package(tmp_path, caplog):
    names = [f"module{i}.py" for i in range(40)] + ["package/__init__.py", "package/deep/part.py"]
    left_out = ["test/test_a.py", "package/tests/test_b.py", "site-packages/other.py", "encodings/table.py"]
    for name in names + left_out:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (tmp_path / "empty.py").write_text("\n")
    (tmp_path / "notes.txt").write_text("no code\n")
    with caplog.at_level(logging.INFO, logger="tmt_geo"):
        splits = load_standard_library(0.2, tmp_path)
    assert len(splits.train + splits.valid + splits.test) == len(names) and "bytes in" in caplog.text
    for split in ("train", "valid", "test"):
        texts = getattr(splits, split)
        assert texts == sorted(texts)
        for text in texts:
            package = text.split()[1].split("/")[0].removesuffix(".py")
            place = int(hashlib.sha256(package.encode()).hexdigest()[:16], 16) / 2**64
            assert split == ("valid" if place < 0.2 else "test" if place < 0.4 else "train")


def test_the_running_library_is_a_source_by_name():
    splits = load_text("stdlib")
    assert splits.name == "stdlib"
    assert sum(len(text) for text in splits.train) > 10 * sum(len(text) for text in splits.valid[:1]) > 0
    assert any("class OrderedDict" in text for text in splits.train + splits.valid + splits.test)
    assert not any("import unittest\nfrom test import support" in text for text in splits.train)
    assert len(load_text("stdlib", limit=2).train) == 2


def test_a_folder_without_modules_is_refused(tmp_path):
    with pytest.raises(ValueError, match="standard library"):
        load_standard_library(folder=tmp_path)
    assert {split_of(name, 0.1) for name in ("json", "json.py")} == {split_of("json", 0.1)}
