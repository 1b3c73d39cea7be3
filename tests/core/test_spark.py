"""A sparkline: each character as tall as its number."""

import math

import pytest

from calibration_ledger.core.spark import ASCII, BLOCKS, spark


def test_each_value_is_as_tall_as_its_share_of_the_greatest():
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == BLOCKS
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], ASCII) == ASCII
    assert spark([700.0, 90.0, 110.0]) == "█▂▂"


def test_signs_do_not_show():
    assert spark([-7, 3.5, 7]) == spark([7, -3.5, -7]) == "█▅█"


def test_heights_begin_at_nothing_so_that_a_steady_row_looks_steady():
    assert spark([100.0, 101.0, 100.0]) == "███"
    assert spark([0.0, 0.0]) == "▁▁"
    assert spark([]) == ""


@pytest.mark.parametrize("vast", [1.7e308, 5e-324, math.inf, math.nan])
def test_no_number_is_too_much_for_it(vast):
    assert spark([0.0, vast]) == "▁█"
