import os
import threading

import pytest

from tmt_geo.data import load_text

LINES = "".join(f"line {i} of a text\n" for i in range(200))


def test_a_file_is_cut_in_order(tmp_path):
    (tmp_path / "book.txt").write_text(LINES)
    splits = load_text(tmp_path / "book.txt")
    assert splits.name == str(tmp_path / "book.txt")
    assert "".join(splits.train + splits.valid + splits.test) == LINES
    assert splits.train[0].endswith("\n")
    assert len(splits.test[0]) == pytest.approx(0.1 * len(LINES), rel=0.1)


def test_a_text_file_may_have_any_name(tmp_path):
    (tmp_path / "notes.md").write_text(LINES)
    assert "".join(load_text(str(tmp_path / "notes.md"), valid_fraction=0.3).train) in LINES


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="has no such device")
def test_a_device_is_no_text(tmp_path):
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    for name in ("/dev/zero", str(tmp_path / "endless.txt")):
        with pytest.raises(ValueError, match=r"'source' .*\(got the device"):
            load_text(name)


@pytest.mark.parametrize("valid", ["valid.txt", "validation.txt"])
def test_a_folder_with_three_splits(tmp_path, valid):
    for name in ("train.txt", valid, "test.txt"):
        (tmp_path / name).write_text(f"text of {name}\n")
    splits = load_text(tmp_path)
    assert splits.train == ["text of train.txt\n"]
    assert splits.valid == [f"text of {valid}\n"]
    assert splits.test == ["text of test.txt\n"]


@pytest.mark.parametrize("valid", ["valid", "validation", None])
def test_a_folder_of_folders_with_a_document_a_file(tmp_path, valid):
    for split in filter(None, ("train", valid, "test")):
        (tmp_path / split).mkdir()
        for i in (2, 1):
            (tmp_path / split / f"{i}.txt").write_text(f"{LINES}{split} {i}\n")
    splits = load_text(tmp_path)
    assert splits.test == [f"{LINES}test {i}\n" for i in (1, 2)]
    if valid is None:
        assert "".join(splits.train + splits.valid) == "".join(f"{LINES}train {i}\n" for i in (1, 2))
    else:
        assert splits.train == [f"{LINES}train {i}\n" for i in (1, 2)]
        assert splits.valid == [f"{LINES}{valid} {i}\n" for i in (1, 2)]


@pytest.mark.parametrize("name", ["BOOK.TXT", "a[1].txt", "a*.txt", "\u00fc \u4f60.txt", "-x.txt"])
def test_a_text_file_of_any_name(tmp_path, name):
    (tmp_path / "a1.txt").write_text("another\n" * 200)
    (tmp_path / name).write_text(LINES)
    splits = load_text(tmp_path / name)
    assert "".join(splits.train + splits.valid + splits.test) == LINES


def test_a_folder_of_texts_in_capitals(tmp_path):
    (tmp_path / "BOOK.TXT").write_text(LINES)
    splits = load_text(tmp_path)
    assert "".join(splits.train + splits.valid + splits.test) == LINES


def test_a_folder_of_documents_in_order_of_name(tmp_path):
    texts = [f"document {i:02d}\n" * 5 for i in range(20)]
    for i in reversed(range(20)):
        (tmp_path / f"{i:02d}.txt").write_text(texts[i])
    splits = load_text(tmp_path)
    assert splits.train + splits.valid + splits.test == texts
    assert (len(splits.valid), len(splits.test)) == (2, 2)


def test_text_is_kept_as_it_is_less_the_byte_order_mark(tmp_path):
    text = "one\r\ntwo \u00a0 tre\u0301s \U0001f600\r\n" * 30
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    splits = load_text(tmp_path / "dos.txt")
    assert "".join(splits.train + splits.valid + splits.test) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", r"'source' must hold text \(got the empty file '.*file.txt'\)", id="empty"),
        pytest.param(b" \n\n", r"'source' must hold text \(got the empty file '.*file.txt'\)", id="blank"),
        pytest.param(b"ok \xff", r"'source' must be UTF-8 text \(got byte 0xff at position 3 of '.*'\)", id="bytes"),
        pytest.param("text\n".encode("utf-16"), "'source' must be UTF-8 text .got byte 0xff", id="UTF-16"),
        pytest.param(b"word", r"'source' is too short, .* \(got '.*file.txt'\)", id="one word"),
    ],
)
def test_bad_files_name_the_source_in_one_line(tmp_path, content, message):
    (tmp_path / "file.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{message}") as info:
        load_text(tmp_path / "file.txt")
    assert "\n" not in str(info.value)


def test_a_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=[LINES])
    writer.start()
    splits = load_text(tmp_path / "pipe")
    writer.join()
    assert "".join(splits.train + splits.valid + splits.test) == LINES


def test_an_empty_split_of_a_folder_names_the_file(tmp_path):
    (tmp_path / "train.txt").write_text(LINES)
    (tmp_path / "valid.txt").touch()
    with pytest.raises(ValueError, match=r"'source' must hold text \(got the empty file '.*valid.txt'\)"):
        load_text(tmp_path)


def test_a_folder_without_text_lists_what_is_read(tmp_path):
    (tmp_path / "picture.png").touch()
    with pytest.raises(ValueError, match=r"'source' must be a folder with \.txt, .*\.parquet, .* files \(got '"):
        load_text(tmp_path)


@pytest.mark.parametrize("source", ["", "missing.txt", "/no/such/folder", "./missing", "a/b/c", "x" * 5000, "a\nb"])
def test_a_missing_path_is_not_looked_up_on_the_hub(source, monkeypatch):
    monkeypatch.setattr("tmt_geo.data.sources.load_hub", None)
    with pytest.raises(ValueError, match=r"^'source' does not exist \(got .*\)$"):
        load_text(source)


@pytest.mark.parametrize("valid_fraction", [0, 0.5, -1, float("nan")])
def test_valid_fraction_out_of_range(valid_fraction):
    with pytest.raises(ValueError, match=r"^'valid_fraction' must lie between 0 and 0.5.*\(got .*\)$"):
        load_text(valid_fraction=valid_fraction)


def test_limit_out_of_range():
    with pytest.raises(ValueError, match=r"^'limit' must be at least 1 \(got 0\)$"):
        load_text(limit=0)
