import pytest

from tmt_geo.data.splits import complete_splits, cut_tail


@pytest.mark.parametrize(
    ("documents", "size", "head", "tail"),
    [
        pytest.param(["aaaa", "bb", "cc"], 4, ["aaaa"], ["bb", "cc"], id="whole documents"),
        pytest.param(["aaaa", "bbb", "cc"], 4, ["aaaa", "bbb"], ["cc"], id="half full is enough"),
        pytest.param(["one\ntwo\nthree\n"], 6, ["one\ntwo\n"], ["three\n"], id="end of a line"),
        pytest.param(["one\ntwo\n", "x"], 5, ["one\n"], ["two\n", "x"], id="a small last document and a part"),
        pytest.param(["one two three"], 5, ["one two "], ["three"], id="between words"),
        pytest.param(["onetwothree"], 5, [], ["onetwothree"], id="nowhere to cut"),
    ],
)
def test_cut_tail(documents, size, head, tail):
    before = list(documents)
    assert cut_tail(documents, size) == (head, tail)
    assert documents == before


def test_complete_splits_keeps_given_splits():
    splits = complete_splits(["train\n"], ["valid\n"], ["test\n"], "name", 0.1)
    assert (splits.train, splits.valid, splits.test, splits.name) == (["train\n"], ["valid\n"], ["test\n"], "name")


def test_missing_splits_come_off_the_end_in_order():
    lines = [f"line {i}\n" for i in range(100)]
    splits = complete_splits(["".join(lines)], None, None, "name", 0.1)
    assert "".join(splits.train + splits.valid + splits.test) == "".join(lines)
    for part in (splits.valid, splits.test):
        assert len("".join(part)) == pytest.approx(0.1 * len("".join(lines)), abs=len(lines[-1]))


def test_missing_test_split_comes_off_the_training_split():
    splits = complete_splits([f"{i}\n" for i in range(100, 200)], ["mine\n"], None, "name", 0.1)
    assert splits.valid == ["mine\n"]
    assert splits.train + splits.test == [f"{i}\n" for i in range(100, 200)]
    assert len(splits.test) == 10


@pytest.mark.parametrize("train", [[], ["word"], ["  \n \n"]])
def test_too_short_a_corpus_names_the_source(train):
    with pytest.raises(ValueError, match=r"^'source' is too short.*\(got 'name'\)$"):
        complete_splits(train, None, None, "name", 0.1)
