import pytest

from tmt_geo.apps.errors import input_errors, one_line


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError("gone")])
def test_bad_input_is_known(error):
    assert isinstance(error, input_errors())


@pytest.mark.parametrize("error", [TypeError("fault"), RuntimeError("fault"), KeyError("fault")])
def test_a_fault_of_the_program_is_not(error):
    assert not isinstance(error, input_errors())


def test_a_message_is_one_line_and_never_empty():
    assert one_line(ValueError("two\n  lines")) == "two lines"
    assert one_line(ValueError()) == "ValueError"
