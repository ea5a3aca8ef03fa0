"""The hub path, offline: `load_dataset` takes a local folder for the hub repository of the same name."""

import csv
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tmt_geo.data import load_text, word_count
from tmt_geo.data.hub import join_lines

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def write_repository(name: str, config: str, rows: dict[str, list[str]], form: str) -> None:
    """Lays out a data set as its hub repository does: a card that names the files, and a file a split."""
    folder = Path(name) / config
    folder.mkdir(parents=True)
    files = [{"split": split, "path": f"{config}/{split}-*"} for split in rows]
    Path(name, "README.md").write_text(
        f"---\nconfigs: {json.dumps([{'config_name': config, 'data_files': files}])}\n---\n"
    )
    for split, texts in rows.items():
        path = folder / f"{split}-00000.{form}"
        if form == "parquet":
            pq.write_table(pa.table({"text": texts, "id": list(range(len(texts)))}), path)
        else:
            path.write_text("".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in texts))


def stories(split: str, n: int) -> list[str]:
    return [f"{split} story {i}.\nIt has two lines." for i in range(n)]


@pytest.mark.parametrize("config", [None, "wikitext-2-v1", "wikitext-2-raw-v1"])
@pytest.mark.parametrize("streaming", [False, True])
def test_wikitext_rows_become_the_lines_of_one_document(config, streaming):
    rows = {split: ["", f" = {split} = \n", "", " Some words , here . \n"] for split in SPLITS}
    write_repository("Salesforce/wikitext", config or "wikitext-2-v1", rows, "parquet")
    splits = load_text("Salesforce/wikitext", config_name=config, streaming=streaming, limit=4 if streaming else None)
    assert splits.name == "Salesforce/wikitext"
    assert splits.train == ["\n = train = \n\n Some words , here . \n"]
    assert splits.valid == ["\n = validation = \n\n Some words , here . \n"]
    assert splits.test == ["\n = test = \n\n Some words , here . \n"]
    assert word_count(splits.test) == 8 + 4


@pytest.mark.parametrize("limit", [None, 20, 1000])
def test_stories_stay_documents_and_lend_a_test_split(limit):
    rows = {"train": stories("train", 40), "validation": stories("validation", 30)}
    write_repository("roneneldan/TinyStories", "default", rows, "parquet")
    splits = load_text("roneneldan/TinyStories", limit=limit)
    assert splits.train + splits.test == rows["train"][:limit]
    assert splits.valid == rows["validation"][:limit]
    assert 1 <= len(splits.test) <= 4


def test_c4_streams_up_to_the_limit():
    rows = {"train": stories("train", 50), "validation": stories("validation", 50)}
    write_repository("allenai/c4", "en", rows, "json")
    splits = load_text("allenai/c4", limit=12)
    assert splits.train + splits.test == rows["train"][:12]
    assert splits.valid == rows["validation"][:12]


@pytest.mark.parametrize("kwargs", [{"source": "allenai/c4"}, {"source": "some/data", "streaming": True}])
def test_a_stream_needs_a_limit(kwargs):
    with pytest.raises(ValueError, match=r"^'limit' must be given where rows are streamed.*\(got None\)$"):
        load_text(**kwargs)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_local_file_with_columns(form):
    write_repository("x", "y", {"train": stories("train", 40)}, form)
    splits = load_text(f"x/y/train-00000.{form}")
    assert splits.train + splits.valid + splits.test == stories("train", 40)


def test_another_text_column():
    Path("file.csv").write_text("body,other\n" + "\n".join(f'"text {i}\nmore",{i}' for i in range(30)) + "\n")
    assert load_text("file.csv", text_column="body").train[0] == "text 0\nmore"
    with pytest.raises(ValueError, match=r"'text_column' must be one of \['body', 'other'\] .* \(got 'text'\)"):
        load_text("file.csv")
    with pytest.raises(ValueError, match=r"'text_column' must name a column of text .* \(got 'other'\)"):
        load_text("file.csv", text_column="other")


def write_file(path: str, texts: list[str | None]) -> None:
    """Writes a file with columns by its suffix."""
    form = Path(path).suffix.lower()
    if form == ".parquet":
        pq.write_table(pa.table({"text": texts, "id": list(range(len(texts)))}), path)
    elif form == ".csv":
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([["text", "id"], *([text, i] for i, text in enumerate(texts))])
    else:
        Path(path).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def documents(splits) -> list[str]:
    return splits.train + splits.valid + splits.test


@pytest.mark.parametrize("empty", [None, "", " "], ids=["null", "empty", "blank"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("end", ["", ".\nIt has two lines."], ids=["one line", "two lines"])
def test_an_empty_cell_is_left_out_and_counted(form, empty, end, caplog):
    texts = [f"story {i}{end}" for i in range(40)]
    write_file(f"file.{form}", [*texts[:7], empty, *texts[7:]])
    assert documents(load_text(f"file.{form}")) == texts
    (record,) = caplog.records
    said = "1 of 41 rows of the train split of 'file.{}' have no text in 'text' and are left out"
    assert record.getMessage() == said.format(form)


def test_nothing_is_said_of_a_file_without_empty_cells_or_of_blank_lines(caplog):
    write_file("file.jsonl", stories("train", 40))
    load_text("file.jsonl")
    write_file("lines.jsonl", ["", " = Title = \n", "", " Some words , here . \n"] * 20)
    assert "".join(documents(load_text("lines.jsonl"))) == "\n = Title = \n\n Some words , here . \n" * 20
    assert not caplog.records


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_without_any_text_is_named(form, streaming):
    write_file(f"file.{form}", [None] * 30)
    with pytest.raises(
        ValueError, match=r"'text_column' must name a column with text in .* \(got 'text', all empty\)"
    ):
        load_text(f"file.{form}", streaming=streaming, limit=20)


def test_words_that_some_take_for_nothing_are_words():
    texts = ["NA", "null", "None", "nan", "n/a", "NULL", "true", "-"] * 5
    write_file("file.csv", texts)
    assert documents(load_text("file.csv")) == texts


@pytest.mark.parametrize(
    "name",
    [
        "a[1].jsonl",
        "a*.jsonl",
        "a?.jsonl",
        "a[!x].jsonl",
        "train-[0].csv",
        "*.parquet",
        "{a,b}.jsonl",
        "\u00fc \u4f60.csv",
    ],
)
def test_the_named_file_is_read_and_no_other(name, tmp_path):
    form = Path(name).suffix
    for neighbor in ("a1", "ab", "a0", "train-0", "a", "b"):
        write_file(neighbor + form, ["another file"] * 40)
    write_file(name, stories("mine", 40))
    assert documents(load_text(name)) == stories("mine", 40)
    assert documents(load_text(tmp_path / name)) == stories("mine", 40)


@pytest.mark.parametrize("name", ["X.CSV", "X.JSONL", "x.Json", "X.PARQUET"])
def test_the_case_of_a_suffix_does_not_matter(name):
    write_file(name, stories("mine", 40))
    assert documents(load_text(name)) == stories("mine", 40)


def test_no_file_of_a_folder_is_passed_over_for_the_case_of_its_suffix(tmp_path):
    for name in ("a.csv", "B.CSV"):
        (tmp_path / name).write_text("text\n" + "a story\n" * 30)
    with pytest.raises(ValueError, match=r"'source' .*got \.CSV"):
        load_text(tmp_path)


def test_a_file_in_a_folder_with_brackets():
    Path("data [v1]").mkdir()
    write_file("data [v1]/file.jsonl", stories("mine", 40))
    assert documents(load_text("data [v1]/file.jsonl")) == stories("mine", 40)
    with pytest.raises(
        ValueError, match=r"'source' must be a file, or a folder without \*, \? and \[ .*data \[v1\]'\)$"
    ):
        load_text("data [v1]")


def test_a_folder_may_have_the_name_of_a_format():
    Path("csv").mkdir()
    write_file("csv/file.jsonl", stories("mine", 40))
    assert documents(load_text("csv")) == stories("mine", 40)


@pytest.mark.parametrize("name", ["file.csv", "file.jsonl", "file.parquet", "file.json"])
def test_an_empty_file_is_named(name):
    Path(name).touch()
    with pytest.raises(ValueError, match=rf"^'source' must hold text \(got the empty file '{name}'\)$"):
        load_text(name)


@pytest.mark.parametrize(("name", "content"), [("file.jsonl", b"\n\n"), ("file.csv", b"text\n")])
def test_a_file_without_rows_is_named(name, content):
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'source' must hold text \(got '{name}' without rows\)$"):
        load_text(name)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("file.jsonl", b"no json\n", "JSON"),
        ("file.csv", b"text\na\nb,c,d\n", "Expected 1 fields in line 3, saw 3"),
        ("file.csv", "text\ncaf\u00e9\n".encode("latin-1"), "codec can't decode"),
    ],
)
def test_a_broken_file_says_why(name, content, reason, capfd):
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^'source' does not load: .*{reason}.* \(got '{name}'\)$"):
        load_text(name)
    assert reason not in capfd.readouterr().err


def test_unknown_config_is_named():
    write_repository("Salesforce/wikitext", "wikitext-2-v1", {"train": ["a\n"]}, "parquet")
    with pytest.raises(ValueError, match=r"^'config_name' must be a configuration of .* \(got 'nope'\)$"):
        load_text("Salesforce/wikitext", config_name="nope")


def test_missing_train_split_is_named():
    write_repository("some/data", "default", {"test": stories("test", 3)}, "parquet")
    with pytest.raises(ValueError, match=r"^'source' must have a train split \(got \['test'\] in 'some/data'\)$"):
        load_text("some/data")


@pytest.mark.parametrize("streaming", [False, True])
def test_broken_files_are_one_line(streaming):
    Path("broken").mkdir()
    Path("broken/train.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(ValueError, match=r"^'source' does not load: .* \(got 'broken'\)$") as info:
        load_text("broken", streaming=streaming, limit=5)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("source", ["no-such/dataset", "nosuchdataset"])
def test_a_name_out_of_reach_is_one_line(source):
    with pytest.raises(ValueError, match=rf"^'source' does not load: .* \(got '{source}'\)$"):
        load_text(source)


@pytest.mark.parametrize(
    ("rows", "documents"),
    [
        pytest.param(["", " = A = \n", "b\n"], ["\n = A = \nb\n"], id="lines with their ends"),
        pytest.param(["a", "", "b"], ["a\n\nb\n"], id="lines without their ends"),
        pytest.param(["a\nb", "c"], ["a\nb", "c"], id="documents"),
        pytest.param(["a\nb\n", "", "c\n"], ["a\nb\n", "c\n"], id="documents with line ends, one blank"),
        pytest.param(["one", "two"], ["one", "two"], id="short documents"),
        pytest.param(["one"] * 20 + [""], ["one"] * 20, id="short documents, one empty"),
        pytest.param([], [], id="none"),
    ],
)
def test_join_lines(rows, documents):
    assert join_lines(rows) == documents
