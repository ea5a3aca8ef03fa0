"""Tables, figure and superadditivity, from results made by hand."""

import math
from dataclasses import replace

import pytest

from tmt_geo.compare.language import LanguageRun
from tmt_geo.compare.mean import Mean
from tmt_geo.compare.report import figure, section, superadditivity, table
from tmt_geo.compare.side_tables import curve_table, depth_table, passkey_table

LINES = {
    "all": {"kind": "all", "tokens": 9, "depth": 1.5, "frozen": [0.0, 0.5]},
    "by_word": [{"kind": "punctuation", "tokens": 1234, "depth": 1.25, "frozen": [0.0, 0.75]}],
    "by_count": [{"kind": "1-10", "tokens": 5, "depth": 2.0, "frozen": [0.0, 0.0]}],
}
PPL = {"vanilla": 100.0, "full": 60.0, "mesh": 96.0, "decay": 99.0, "exit": 103.0, "mesh + decay + exit": 95.0}


@pytest.fixture
def folder(suite, tmp_path):
    def put(names=tuple(PPL), seeds=(1, 2), **change):
        for row in suite.rows:
            for seed in seeds if row.name in names else ():
                ppl = PPL[row.name] + 2 * (seed - 1) * (row.name != "vanilla")
                run = LanguageRun(suite, row, seed)
                result = {"plan": run.plan, "seed": seed, "params": 1000, "data": "x"}
                result |= {"params_without_embeddings": 600, "valid_word_ppl": ppl + 1, "test_word_ppl": ppl}
                result |= {
                    "valid_bits_per_byte": 1.25,
                    "test_bits_per_byte": 1.5,
                    "flops_per_token": 2e6,
                    "flops_per_token_head": 1e6,
                }
                result |= {"exit_profile": LINES} if row.profiled else {}
                result |= {"active_share": [1.0, 0.5]} | change.get(row.name, {})
                run.store(tmp_path, result)
        return tmp_path

    return put


def cells(text, row):
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_means_errors_and_ratios(suite, folder):
    text = table(suite, folder(full={"flops_per_token": 1e6}))
    assert cells(text, "full")[1:] == [
        "1,000", "600", "62.0 +- 1.0", "61.0 +- 1.0", "0.61", "1.500 +- 0.000", "1.00", "0.50", "1.00", "0.75", "2",
        "-", "-",
    ]  # fmt: skip
    assert cells(text, "mesh")[-2:] == ["37.8", "0.62"]
    assert cells(text, "vanilla")[5] == "1.00"
    head = cells(text, "row")
    assert head[-2:] == ["claimed: ppl", "claimed: compute"] and len(head) == len(cells(text, "full"))


def test_what_was_not_run_says_so(suite, folder):
    text = table(suite, folder(names=("full",), seeds=(2,)))
    assert cells(text, "mesh")[1] == "not run"
    assert cells(text, "full")[4:6] == ["62.0", "-"]  # no error of one seed, no ratio without the baseline
    assert superadditivity(suite, folder(names=("full",))) == ""


def test_nothing_is_said_of_nothing(suite, tmp_path):
    assert section(suite, tmp_path) == ""
    with pytest.raises(ValueError, match="'folder' must hold results"):
        figure(suite, tmp_path)


def test_superadditivity_is_computed_from_the_rows(suite, folder):
    """By hand: seed 1 gains 4 + 1 - 3 = 2 alone and 5 together; seed 2, whose rows lose two each, -4 and 3."""
    text = superadditivity(suite, folder())
    assert "2 seeds: mesh 3.0 +- 1.0, decay 0.0 +- 1.0, exit -4.0 +- 1.0, which add up to -1.0 +- 3.0" in text
    assert "all three together 4.0 +- 1.0, more than the sum" in text


def test_figure_has_a_marker_a_row_where_the_results_say(suite, folder):
    drawn = figure(suite, folder())
    (scatter,) = drawn.data
    assert list(scatter.text) == [row.name for row in suite.rows]
    assert scatter.y[list(scatter.text).index("full")] == 61.0 and set(scatter.x) == {2.0}
    assert scatter.error_y.array[list(scatter.text).index("full")] == pytest.approx(1.0)


def test_mean():
    assert Mean.of([3.0]) == Mean(3.0, None)
    assert Mean.of([1.0, 2.0, 3.0]).error == pytest.approx(1 / math.sqrt(3))


def test_depths_stand_next_to_the_claim(suite, folder):
    text = depth_table(suite, folder())
    assert "Exit depth in `full`, test split, 2 seeds" in text and "layers computed, of 2" in text
    assert cells(text, "punctuation")[1:] == ["1,234", "1.25 +- 0.00", "0.62", "2.1", "0.18"]
    assert cells(text, "seen in training: 1-10")[2:] == ["2.00 +- 0.00", "1.00", "-", "-"]
    assert text in section(suite, folder())
    assert depth_table(suite, folder(names=("vanilla",)) / "nothing") == ""


@pytest.mark.parametrize(("steps_logged", "shown"), [(1, [1]), (10, list(range(1, 11))), (12, list(range(2, 13, 2)))])
def test_the_loss_on_the_way_stands_by_steps_with_the_last_one(suite, folder, steps_logged, shown):
    history = [{"step": step, "eval_loss": 7 - step / 8} for step in range(1, steps_logged + 1)]
    results = folder(full={"history": [{"step": 1, "loss": 9.0}, *history]})
    text = curve_table(suite, results)
    assert cells(text, "validation loss after so many steps")[1:] == [str(step) for step in shown]
    assert cells(text, "full")[1:] == [f"{7 - step / 8:.3f} +- 0.000" for step in shown]
    assert "vanilla" not in text and text in section(suite, results)
    assert curve_table(suite, folder(full={"history": []})) == ""


def test_the_loss_on_the_way_is_that_of_the_runs_that_were_looked_at(suite, folder):
    folder(seeds=(1,), full={"history": []})
    results = folder(seeds=(2,), full={"history": [{"step": 3, "eval_loss": 5.5}]})
    assert cells(curve_table(suite, results), "full")[1:] == ["5.500"]


def test_passkeys_stand_by_distance(suite, folder):
    row = replace(suite.rows[0], passkey=(500, 50))
    changed = replace(suite, rows=(row, *suite.rows[1:]))
    text = passkey_table(changed, folder(vanilla={"passkey": {"500": 0.25, "50": 1.0}}))
    assert cells(text, "vanilla")[1:] == ["1.00 +- 0.00", "0.25 +- 0.00"]
    assert "| 50 | 500 |" in text and passkey_table(suite, folder()) == ""


def test_a_suite_without_a_test_split_reports_validation(suite, folder):
    untested = replace(suite, tested=False)
    text = table(untested, folder())
    assert cells(text, "full")[3:6] == ["62.0 +- 1.0", "0.61", "1.250 +- 0.000"] and "test" not in text
    assert figure(untested, folder()).data[0].y[1] == 62.0
