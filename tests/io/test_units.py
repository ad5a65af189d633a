"""Printed quantities: values by definition of the units, refusals, and the laws of the round trip."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import RooflineError
from roofline.io.units import dimension_of, format_quantity, parse_printed, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("989.4 TFLOP/s", 989.4e12),
        ("989.4 TFLOPS", 989.4e12),
        ("1978.9 TOP/s", 1978.9e12),
        ("3350 GB/s", 3.35e12),
        ("3.35TB/s", 3.35e12),
        ("80 GB", 80e9),
        ("80 GiB", 80 * 2**30),
        ("50 MiB", 50 * 2**20),
        ("1830 MHz", 1.83e9),
        ("700 W", 700.0),
        ("400 Gb/s", 50e9),
        ("400 Gbps", 50e9),
        ("6.88 USD/h", 6.88),
        ("2.4 us", 2.4e-6),
        ("2.4 µs", 2.4e-6),
        ("132 SM", 132.0),
        ("0.83", 0.83),
        ("83 %", 0.83),
        ("1e3", 1000.0),
        ("900 GB/s / 2", 450e9),
        ("55.04 USD/h / 8", 6.88),
        ("132 * 4096 * 1.83 GHz", 132 * 4096 * 1.83e9),
        ("9024 DSP * 2 * 2 * 300 MHz", 10.8288e12),
        ("9024 DSP * 2 MAC * 300 MHz", 10.8288e12),  # 1 MAC = 2 FLOP
        ("8 channels * 4800 MT/s * 8 B", 307.2e9),  # DDR5-4800: 38.4 GB/s per channel
        ("32 x 14.375 GB/s", 460e9),
        ("128 MiB + 32 MiB", 160 * 2**20),
        ("1 - 0.9", 0.1),
        ("158 Mb + 12.5 MB", 158e6 / 8 + 12.5e6),
        ("2250 TFLOP/s / 148 / 8192 FLOP", 2250e12 / 148 / 8192),
    ],
)
def test_text_means_its_si_value(text: str, value: float) -> None:
    assert parse_quantity(text) == pytest.approx(value, rel=1e-14)


def test_units_have_dimensions() -> None:
    assert parse_printed("80 GB / 3350 GB/s").dimension == dimension_of("s")
    assert parse_printed("132 SM * 4096 FLOP * 1.83 GHz").dimension == dimension_of("FLOP/s")
    assert parse_printed("700 W").dimension == dimension_of("J/s")
    assert parse_printed("132 SM").dimension == ()
    assert dimension_of("Gb/s") == dimension_of("B/s") != dimension_of("FLOP/s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80 gb", "Did you mean 'GB'"),
        ("3 TFLIP/s", "Did you mean 'TFLOP'"),
        ("3 parsec", "'parsec' is not known"),
        ("", "is empty"),
        ("   ", "is empty"),
        ("fast", "needs a number"),
        ("GB", "needs a number"),
        ("3 *", "ends with '*'"),
        ("3 4", "before '4'"),
        ("1,978 GB", "has ','"),
        ("__import__('os')", "has '_'"),
        ("(1 + 2) GB", "has '('"),
        ("3 GB + 4 s", "adds byte to s"),
        ("5 GB / 0", "divides by zero"),
        ("3 GB - 4 GB", "is negative"),
        ("-3 GB", "needs a number"),
        ("1e999 GB", "not a finite number"),
        ("1e300 * 1e300", "not a finite number"),
        ("nan", "needs a number"),
        ("inf GB", "needs a number"),
        ("9" * 201, "at most 200"),
    ],
)
def test_what_is_no_quantity_is_refused(text: str, message: str) -> None:
    with pytest.raises(RooflineError) as caught:
        parse_quantity(text)
    assert message in str(caught.value)
    assert "Accepted" in str(caught.value) or "at most" in str(caught.value)


@given(st.text(max_size=60))
def test_no_text_raises_anything_but_our_error(text: str) -> None:
    try:
        value = parse_quantity(text)
    except RooflineError:
        return
    assert math.isfinite(value) and value >= 0.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (989.4e12, "FLOP/s", "989.4 TFLOP/s"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (80e9, "B", "80 GB"),
        (999.96e9, "B", "1 TB"),
        (0.0, "B", "0 B"),
        (2.4e-6, "s", "2.4 us"),
        (1830e6, "Hz", "1.83 GHz"),
        (0.83, "%", "83 %"),
        (6.88, "USD/h", "6.88 USD/h"),
        (0.5, "B", "0.5 B"),
        (-2e9, "B", "-2 GB"),
        (8.0, "", "8"),
    ],
)
def test_format(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text


def test_binary_prefixes_only_where_asked() -> None:
    assert format_quantity(80 * 2**30, "B", binary=True) == "80 GiB"
    assert format_quantity(80 * 2**30, "B") == "85.9 GB"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_shown(value: float) -> None:
    with pytest.raises(RooflineError, match="not a finite number"):
        format_quantity(value, "B")


@given(
    st.floats(min_value=1e-9, max_value=1e20),
    st.sampled_from(["FLOP/s", "B", "B/s", "s", "W", "J", "Hz", "USD/h", "%", ""]),
    st.booleans(),
)
def test_formatted_text_reads_back_to_four_digits(value: float, unit: str, binary: bool) -> None:
    text = format_quantity(value, unit, binary=binary and unit == "B")
    assert parse_quantity(text) == pytest.approx(value, rel=6e-4)


@given(st.floats(min_value=1e-3, max_value=1e6), st.floats(min_value=1e-3, max_value=1e6))
def test_arithmetic_of_texts_is_arithmetic_of_values(left: float, right: float) -> None:
    assert parse_quantity(f"{left!r} GB * {right!r}") == pytest.approx(left * 1e9 * right, rel=1e-13)
    assert parse_quantity(f"{left!r} GB / {right!r}") == pytest.approx(left * 1e9 / right, rel=1e-13)
    assert parse_quantity(f"{left!r} GB + {right!r} GB") == pytest.approx((left + right) * 1e9, rel=1e-13)
