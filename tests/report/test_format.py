"""Numbers as text: rounding at the seams of the prefixes, and what is not a number."""

import math

import pytest

from roofline.report import format as text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.011884535831670547, "11.9 ms"),
        (2.6224376689895337, "2.62 s"),
        (3.12e-4, "312 us"),
        (4.4e-9, "4.4 ns"),
        (9.996e-4, "1 ms"),  # rounds across a prefix
        (0.9996, "1 s"),
        (3600.0, "3,600 s"),  # never "3.6 ks"
        (0.0, "0 s"),
    ],
)
def test_seconds(value: float, shown: str) -> None:
    assert text.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (17640734720.0, "17.6 GB"),
        (999.6e6, "1 GB"),
        (80e9, "80 GB"),
        (2.0**30, "1.07 GB"),
        (-5e9, "-5 GB"),
        (12, "12 B"),
    ],
)
def test_bytes_are_in_powers_of_ten(value: float, shown: str) -> None:
    assert text.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.4407, "44.1 %"),
        (0.8, "80 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (9e-4, "<0.1 %"),
        (0.001, "0.1 %"),
        (12.5, "1,250 %"),
    ],
)
def test_percent(value: float, shown: str) -> None:
    assert text.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.6117, "$0.61"), (5.678, "$5.68"), (1234.5, "$1,230"), (0.00417, "$0.00417"), (0.0, "$0"), (0.1, "$0.10")],
)
def test_money(value: float, shown: str) -> None:
    assert text.money(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2692.57, "2,690"),
        (8.0797, "8.08"),
        (0.0123456, "0.0123"),
        (99.96, "100"),
        (1.2e-7, "1.2e-07"),
        (3e12, "3e+12"),
        (0, "0"),
    ],
)
def test_number_has_three_digits(value: float, shown: str) -> None:
    assert text.number(value) == shown


def test_count_keeps_every_digit() -> None:
    assert [text.count(v) for v in (41120, 80.0, 2.5, 0)] == ["41,120", "80", "2.5", "0"]


@pytest.mark.parametrize("show", [text.seconds, text.size, text.percent, text.money, text.number, text.count])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ("Infinity", "Infinity"),
        ("<b>", "<b>"),
        (True, "True"),
    ],
)
def test_what_is_no_number_is_named(show, value: object, shown: str) -> None:
    assert show(value) == shown


def test_a_column_has_one_unit_in_which_its_largest_value_is_at_least_one() -> None:
    assert text.column_unit([1e-6, 2e-3, None, math.nan], "s") == ("ms", 1e-3)
    assert text.column_unit([3e9, 1.0], "B") == ("GB", 1e9)
    assert text.column_unit([0.2], "%") == ("%", 0.01)
    assert text.column_unit([], "s") == ("ns", 1e-9)
    assert text.column_unit([5.0], "FLOP/B") == ("FLOP/B", 1.0)


def test_clip_gives_one_line_of_at_most_the_limit() -> None:
    assert text.clip("a\n b", 10) == "a b"
    assert text.clip("x" * 10_000, 80) == "x" * 79 + "…"
    assert text.clip("x" * 80, 80) == "x" * 80


def test_a_range_says_where_it_has_no_end_and_a_point_is_said_once() -> None:
    assert text.span([1.37, 1.82]) == "1.37 s to 1.82 s"
    assert text.span([0.255, None]) == "255 ms or more"
    assert text.span([0.5, 0.5]) == "500 ms"
    assert text.span(None) == text.span([None, None]) == "–"


def test_words_become_a_sentence() -> None:
    assert text.sentence("a band; until fitted") == "A band; until fitted."
    assert text.sentence("Done.") == "Done." and text.sentence("") == ""
