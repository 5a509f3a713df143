"""Numbers as people write them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import amounts

READ = [
    ("5000", "5000"),
    ("$5,000", "5000"),
    ("5 000.00", "5000"),
    ("5\u202f000,00 €", "5000"),
    ("€5000", "5000"),
    ("$10000+", "10000"),
    ("$500", "500"),
    ("5.000,50", "5000.50"),
    ("5,000.50", "5000.50"),
    ("1.234.567", "1234567"),
    ("1.234.567,89", "1234567.89"),
    ("1,234,567.89", "1234567.89"),
    ("1,23,456", "123456"),
    ("5,5", "5.5"),
    ("0,123", "0.123"),
    ("-3", "-3"),
    ("−3", "-3"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    ("(100)", "-100"),
    ("($1,200.50)", "-1200.50"),
    ("1e3", "1000"),
    ("10k", "10000"),
    ("$2.5M", "2500000"),
    ("5'000", "5000"),
    ("25%", "25"),
    ("5000 USD", "5000"),
    ("EUR 5.000,00", "5000"),
    (".5", "0.5"),
    (12, "12"),
    (1.5, "1.5"),
    (Decimal("2.50"), "2.5"),
]
NO_NUMBER = ["", " ", "abc", "１２", "1.2.3", "192.168.1.1", "v2", "1" * 5000, True, None, [1], {"a": 1}]
NO_NUMBER += [float("nan"), float("inf"), 10**200]


@pytest.mark.parametrize(("written", "meant"), READ)
def test_a_number_is_read_however_it_is_written(written, meant):
    assert amounts.number_in(written) == Decimal(meant)
    assert amounts.amount(written) == Decimal(meant)


@pytest.mark.parametrize("written", NO_NUMBER, ids=lambda value: repr(value)[:20])
def test_what_holds_no_number_gives_none(written):
    assert amounts.number_in(written) is None
    assert amounts.amount(written) is None


def test_a_lone_dot_is_a_decimal_mark_and_a_lone_comma_before_three_digits_is_not():
    assert amounts.number_in("5.000") == 5
    assert amounts.number_in("5,000") == 5000


@pytest.mark.parametrize(
    ("text", "number"), [("about 5000 dollars", 5000), ("10-20", 10), ("Budget (500)", 500)]
)
def test_a_number_inside_a_text_is_found_but_the_text_is_no_amount(text, number):
    assert amounts.number_in(text) == number
    assert amounts.amount(text) is None


@given(st.text() | st.text(alphabet="0123456789.,-+$€() ekM%'", max_size=60))
def test_reading_any_text_never_raises_and_never_gives_nan(text):
    for found in (amounts.number_in(text), amounts.amount(text)):
        assert found is None or found.is_finite()


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9))
def test_what_a_program_writes_is_read_back(number):
    assert amounts.number_in(f"{number:f}") == number
    assert amounts.number_in(f"${number:,f}") == number
