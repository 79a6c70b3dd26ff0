"""Numbers as people read them, beside the exact ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsmith.report import text


def plain(words: str) -> str:
    return words.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.milliseconds(0.56314), "0.563 ms"),
        (text.milliseconds(0.6), "0.600 ms"),
        (text.milliseconds(12.345), "12.3 ms"),
        (text.milliseconds(999.96), "1,000 ms"),
        (text.percent(0.93641), "93.64 %"),
        (text.percent(1.0), "100.00 %"),
        (text.data_size(4_790_000), "4.79 MB"),
        (text.data_size(512), "512 B"),
        (text.count(17_456_000), "17.5 M"),
        (text.count(676_200), "676,200"),
        (text.duration(42.0), "42.0 s"),
        (text.duration(2544.2), "42 min 24 s"),
        (text.duration(7260), "2 h 1 min"),
        (text.digits(3.1e-6), "3.10 \u00d7 10⁻⁶"),
        (text.digits(0), "0"),
        (text.moment(0), "1970-01-01 00:00 UTC"),
    ],
)
def test_figures_are_written_with_their_units(written: str, expected: str) -> None:
    assert plain(written) == expected


@given(st.floats(1e-4, 999_000, allow_nan=False))
def test_three_digits_stay_within_half_a_step(value: float) -> None:
    assert float(text.digits(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_a_figure_holds_the_exact_value() -> None:
    assert text.figure(0.56314159, "ms") == '<data value="0.56314159">0.563\u202fms</data>'


@pytest.mark.parametrize("value", [None, "<b>", float("nan"), True, [1]])
def test_what_is_no_number_is_called_not_recorded(value: object) -> None:
    assert text.figure(value, "ms") == '<span class="absent">not recorded</span>'
