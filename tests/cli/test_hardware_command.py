"""`roofline hardware show`: the facts of a device, and how well its kernels are known."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roofline.cli.hardware import app
from roofline.cli.screen_fits import undetermined_lines
from roofline.errors import RooflineError
from roofline.io.calibration import every_fit
from roofline.io.profiles import load_target, profile_path


def shown(*arguments: str) -> str:
    result = CliRunner(env={"NO_COLOR": "1"}).invoke(app, ["show", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_show_ends_with_the_errors_of_every_fit() -> None:
    fits = tomllib.loads(profile_path("h100-sxm").read_text("utf-8"))["calibration"]
    out = shown("h100-sxm")
    for library, families in fits.items():
        for family, formats in {} if library == "backend" else families.items():
            for label, entry in formats.items():
                known = entry["evidence"]
                row = next(
                    line
                    for line in out.splitlines()
                    if f"│ {family} " in line and f" {label} " in line and f"{library} {known['version']}" in line
                )
                assert f"{known['median_ape']:.1%}" in row and f"{known['unseen_rows']:,}" in row


def test_show_of_a_device_like_another_says_from_which_its_parameters_are() -> None:
    out = shown("h200-sxm")
    assert "carried over from h100-sxm" in out and "│ h100-sxm" in out
    assert "errors are of the device it is from" in out


def test_a_family_is_shown_with_its_parameters_as_the_profile_has_them() -> None:
    out = shown("a100-sxm-80gb", "--family", "norm")
    entry = tomllib.loads(profile_path("a100-sxm-80gb").read_text("utf-8"))["calibration"]["vidur"]["norm"]["bf16"]
    facts = next(line for line in out.splitlines() if line.startswith("  kernel: ")).removeprefix("  kernel: ")
    fitted = dict(entry["parameters"])
    for name, value in (fact.split() for fact in facts.split(", ")):
        assert float(value.replace(",", "")) == fitted.pop(name)
    assert "row_clock" in fitted and len(fitted) == 6
    for name, value in fitted.items():
        row = next(line.split() for line in out.splitlines() if line.startswith(name + " "))
        assert f"{value:.4g}" in row
    assert entry["evidence"]["data"] in out and entry["evidence"]["date"] in out
    listed = json.loads(shown("a100-sxm-80gb", "--family", "norm", "--json"))
    assert listed["vidur norm bf16"]["parameters"] == entry["parameters"]


def test_kernels_inside_a_fit_are_shown_like_it() -> None:
    """An all-reduce hands large payloads to NCCL; a product in fp8 is one kernel after another."""
    calibration = tomllib.loads(profile_path("h100-sxm").read_text("utf-8"))["calibration"]["vllm"]
    out = shown("h100-sxm", "--family", "all_reduce")
    own, beyond = out.split("beyond, which takes what this kernel leaves")
    hop_s = calibration["all_reduce"]["bf16"]["parameters"]["beyond"]["hop_s"]
    assert f"{hop_s:.4g}" in next(line for line in beyond.splitlines() if line.startswith("hop_s")).split()
    assert "symmetric HOPPER" in own and "limit_byte 8,388,608" in own
    assert "ramp (not fitted)" in out  # messages between pairs only
    library = calibration["gemm"]["fp8"]["parameters"]["product"]["library"]
    assert f"product.library {library}, quantise.read_passes" in shown("h100-sxm", "--family", "gemm")


def test_parameters_that_rows_do_not_tell_are_named() -> None:
    fits = every_fit(load_target("h100-sxm"))
    known = {key: fits[key] for key in (("nccl", ("all_reduce", "bf16")), ("nccl", ("all_gather", "bf16")))}
    names = ", ".join(known["nccl", ("all_reduce", "bf16")].evidence.undetermined)
    assert names and not known["nccl", ("all_gather", "bf16")].evidence.undetermined
    assert list(undetermined_lines(known)) == [f"all_reduce bf16, nccl: not determined by these rows: {names}"]


def test_a_device_without_fits_says_so() -> None:
    assert "Uncalibrated" in shown("mi300x")


@pytest.mark.parametrize(
    ("device", "family", "said"),
    [("h100-sxm", "gem", "Did you mean 'gemm'?"), ("mi300x", "gemm", "nothing is calibrated for mi300x")],
)
def test_an_unknown_family_is_refused(device: str, family: str, said: str) -> None:
    with pytest.raises(RooflineError, match=re.escape(said)):
        shown(device, "--family", family)


def test_brackets_in_a_profile_are_no_markup(tmp_path: Path) -> None:
    text = profile_path("mi210").read_text("utf-8")
    version = tomllib.loads(text)["calibration"]["pytorch"]["norm"]["bf16"]["evidence"]["version"]
    assert f'version = "{version}"' in text
    file = tmp_path / "mine.toml"
    file.write_text(
        text.replace('name = "mi210"', 'name = "mine"').replace(f'version = "{version}"', 'version = "[red]2[/red]"')
    )
    assert "[red]2[/red]" in shown(str(file))
