"""Each mistake that catalogues make is planted in a shipped profile and must be found; what ships must be clean.

The figures are those that the named pages print (rows marked rejected or alt in the project's table of facts).
"""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roofline.cli.hardware import app
from roofline.errors import RooflineError
from roofline.io.profile_lint import Finding, lint_profile
from roofline.io.profiles import profile_folder, profile_names
from roofline.io.units import parse_quantity


def planted(folder: Path, name: str, changes: dict[str, str], words: dict[str, str] | None = None) -> Path:
    """A copy of profile `name` in which each fact `changes` names ("matrix.bf16") has the new printed text."""
    lines, table = [], ""
    left = dict(changes)
    for line in (profile_folder() / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            table = line.strip("[]") + "."
        key = table + line.split("=")[0].strip()
        if key in left:
            printed = left.pop(key)
            end = line[line.index(', kind = "') :]
            line = f'{line.split("=")[0]}= {{ value = {parse_quantity(printed)!r}, printed = "{printed}"{end}'
        lines.append(line)
    assert not left, f"no such facts: {left}"
    text = "\n".join(lines)
    for old, new in (words or {}).items():
        assert old in text
        text = text.replace(old, new)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_profiles_are_clean() -> None:
    assert {name: lint_profile(name) for name in profile_names() if lint_profile(name)} == {}


PLANTED = [
    # Sparse rates given as dense.
    ("h100-sxm", {"matrix.bf16": "1979 TFLOP/s"}, "matrix.bf16", "error", "half of a 2:4 sparse one"),
    ("h100-sxm", {"matrix.fp8": "3958 TFLOP/s"}, "matrix.fp8", "error", "looks sparse"),
    ("h100-pcie", {"matrix.fp16": "1513 TFLOP/s"}, "matrix.fp16", "error", "no dense NVIDIA unit up to 2022"),
    (
        "h200-sxm",
        {"matrix.tf32": "989 TFLOP/s", "matrix.fp16": "1979 TFLOP/s"},
        "matrix.fp16",
        "error",
        "half of a 2:4",
    ),
    ("a100-sxm-80gb", {"matrix.bf16": "624 TFLOP/s"}, "matrix.bf16", "error", "up to 2020 does more than 2048"),
    ("l40s", {"matrix.bf16": "733 TFLOP/s"}, "matrix.bf16", "error", "8.0 times the fp32 vector rate"),
    ("l40s", {"matrix.fp8": "1466 TFLOP/s"}, "matrix.fp8", "error", "looks sparse"),  # inference-sim hardware_config
    ("l4", {"matrix.fp16": "242 TFLOP/s"}, "matrix.fp16", "error", "times the fp32 vector rate"),
    ("b200-sxm", {"matrix.fp8": "9000 TFLOP/s"}, "matrix.fp8", "error", "looks sparse"),
    ("gb200", {"matrix.bf16": "4500 TFLOP/s"}, "matrix.bf16", "error", "no dense NVIDIA unit"),  # GenZ
    ("rtx-pro-6000", {"matrix.fp4": "4000 TOP/s"}, "matrix.fp4", "error", "looks sparse"),  # "4000 AI TOPS"
    ("mi300x", {"matrix.bf16": "2614.9 TFLOP/s"}, "matrix.bf16", "error", "no dense AMD unit up to 2023"),
    ("mi355x", {"matrix.fp8": "10.1 PFLOP/s"}, "matrix.fp8", "error", "looks sparse"),
    ("mi355x", {"matrix.fp4": "20.1 PFLOP/s"}, "matrix.fp4", "error", "looks sparse"),
    ("trainium2", {"matrix.fp8": "2563 TFLOP/s"}, "matrix.fp8", "error", "looks sparse"),
    # Accumulation, vector rates, unit counts.
    ("rtx-4090", {"matrix.fp16": "330.3 TFLOP/s"}, "matrix.fp16", "error", "with fp16 accumulation"),
    ("rtx-3090", {"matrix.bf16": "142 TFLOP/s"}, "matrix.bf16", "error", "with fp16 accumulation"),
    ("a6000", {"matrix.bf16": "38.7 TFLOP/s"}, "matrix.bf16", "error", "a rate of the vector cores"),  # Lightning
    ("l4", {"units.count": "60 SM"}, "matrix.bf16", "warning", "not those of the whole die"),  # NeuSight
    ("v100-sxm2-32gb", {"units.clock": "1455 MHz"}, "matrix.fp16", "warning", "the clock of the matrix rate"),
    ("tpu-v6e", {"units.count": "2 MXU"}, "matrix.bf16", "warning", "an array of 256 x 256 does 131072"),
    # Proportion.
    ("h100-sxm", {"matrix.fp8": "494.7 TFLOP/s"}, "matrix.fp8", "error", "a narrower format is not slower"),
    ("b200-sxm", {"matrix.fp4": "2250 TFLOP/s"}, "matrix.fp4", "error", "a narrower format is not slower"),
    ("h100-sxm", {"matrix.int8": "1484 TOP/s"}, "matrix.int8", "warning", "check both rates"),
    # GB and GiB.
    (
        "h200-sxm",
        {"memory.dram.capacity": "141 GiB"},
        "memory.dram.capacity",
        "error",
        "write 141 GB",
    ),  # aiconfigurator
    ("b200-sxm", {"memory.dram.capacity": "186 GiB"}, "memory.dram.capacity", "error", "write 186 GB"),
    ("tpu-v5e", {"memory.dram.bandwidth": "800 GiB/s"}, "memory.dram.bandwidth", "warning", "write 800 GB/s"),
    ("trainium2", {"memory.dram.bandwidth": "2.9 TiB/s"}, "memory.dram.bandwidth", "warning", "write 2.9 TB/s"),
    # Both directions.
    ("v100-sxm2-32gb", {"link.intra_node.bandwidth": "300 GB/s"}, "link.intra_node.bandwidth", "error", "NVLink 2"),
    ("a100-sxm-80gb", {"link.intra_node.bandwidth": "600 GB/s"}, "link.intra_node.bandwidth", "error", "NVLink 3"),
    ("h100-sxm", {"link.intra_node.bandwidth": "900 GB/s"}, "link.intra_node.bandwidth", "error", "NVLink 4"),
    ("b200-sxm", {"link.intra_node.bandwidth": "1.8 TB/s"}, "link.intra_node.bandwidth", "error", "NVLink 5"),
    ("h100-nvl", {"link.intra_node.bandwidth": "600 GB/s"}, "link.intra_node.bandwidth", "error", "NVLink bridge"),
    ("a40", {"link.intra_node.bandwidth": "112.5 GB/s"}, "link.intra_node.bandwidth", "error", "GA102"),
    ("a100-pcie-80gb", {"link.intra_node.bandwidth": "64 GB/s"}, "link.intra_node.bandwidth", "error", "PCIe Gen4"),
    ("h100-pcie", {"link.intra_node.bandwidth": "128 GB/s"}, "link.intra_node.bandwidth", "error", "PCIe Gen5"),
    ("mi300x", {"link.intra_node.bandwidth": "896 GB/s"}, "link.intra_node.bandwidth", "error", "xGMI"),
    ("tpu-v6e", {"link.intra_node.bandwidth": "800 GB/s"}, "link.intra_node.bandwidth", "error", "TPU v6e"),
    ("trainium2", {"link.intra_node.bandwidth": "1280 GB/s"}, "link.intra_node.bandwidth", "error", "NeuronLink"),
    ("h100-sxm", {"link.inter_node.bandwidth": "400 GB/s"}, "link.inter_node.bandwidth", "error", "write Gb/s"),
    # Power.
    ("l4", {"power.tdp": "150 W"}, "power.tdp", "error", "fed by the slot"),
    ("h100-pcie", {"power.tdp": "700 W"}, "power.tdp", "error", "12V-2x6"),
    ("gb200", {"power.tdp": "2700 W"}, "power.tdp", "error", "one CPU with two GPUs"),
    ("h200-sxm", {"power.idle": "700 W"}, "power.idle", "error", "not below the TDP"),
    # Memory out of range.
    ("h100-sxm", {"memory.dram.bandwidth": "3350 Gb/s"}, "memory.dram", "error", "is read in 191 ms"),
    ("h100-sxm", {"memory.dram.capacity": "8 GB"}, "memory.dram", "error", "is read in 2.388 ms"),
    ("h200-sxm", {"memory.dram.capacity": "8 * 141 GB"}, "memory.dram", "error", "one device, not the server"),
    # Prices and efficiencies.
    ("h100-sxm", {"price.on_demand": "55.04 USD/h"}, "price.on_demand", "warning", "divide by the devices"),
    ("h100-sxm", {"efficiency.matrix": "0.1"}, "efficiency.matrix", "warning", "more than a fifth"),
    (
        "mi210",
        {"efficiency.kernel_overhead": "34 us"},
        "efficiency.kernel_overhead",
        "error",
        "framework",
    ),  # LLMCompass
    ("h100-sxm", {"efficiency.kernel_overhead": "2.4 ns"}, "efficiency.kernel_overhead", "warning", "check the unit"),
    # Beyond what the schema lets in.
    ("h100-sxm", {"efficiency.matrix": "1.3"}, "efficiency.matrix", "error", "out of range; accepted: 0.001 to 1"),
    ("h100-sxm", {"efficiency.dram": "0"}, "efficiency.dram", "error", "out of range"),
]


@pytest.mark.parametrize(("name", "changes", "field", "severity", "text"), PLANTED)
def test_a_planted_defect_is_found(
    tmp_path: Path, name: str, changes: dict[str, str], field: str, severity: str, text: str
) -> None:
    findings = [finding for finding in lint_profile(planted(tmp_path, name, changes)) if finding.field == field]
    assert [finding.severity for finding in findings][:1] == [severity]
    assert any(text in f"{finding.found} {finding.why} {finding.fix}" for finding in findings)


def test_gib_written_where_gb_is_printed_is_found(tmp_path: Path) -> None:
    path = planted(
        tmp_path, "h100-sxm", {}, {'value = 80e9, printed = "80 GB"': 'value = 85899345920, printed = "80 GB"'}
    )
    (finding,) = lint_profile(path)
    assert finding.field == "memory.dram.capacity" and "(GB is 10^9 byte, GiB is 2^30)" in finding.found


def test_a_price_without_a_date_is_found(tmp_path: Path) -> None:
    (finding,) = lint_profile(planted(tmp_path, "h100-sxm", {}, {", date = 2026-07-20": ""}))
    assert (finding.severity, finding.field) == ("error", "price.on_demand") and "YYYY-MM-DD" in finding.fix


def test_every_finding_says_what_why_and_how(tmp_path: Path) -> None:
    for name, changes, *_ in PLANTED:
        for finding in lint_profile(planted(tmp_path, name, changes)):
            assert isinstance(finding, Finding)
            assert all((finding.field, finding.found, finding.why, finding.fix))


def test_errors_come_first_and_a_missing_file_is_no_finding(tmp_path: Path) -> None:
    changes = {"efficiency.matrix": "0.1", "power.tdp": "3 kW"}
    assert [finding.severity for finding in lint_profile(planted(tmp_path, "h100-sxm", changes))] == [
        "error",
        "warning",
    ]
    with pytest.raises(RooflineError, match="no file"):
        lint_profile(tmp_path / "nowhere.toml")


# --- command line -----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_list_shows_every_profile() -> None:
    status, text = run("list")
    assert status == 0 and all(name in text for name in profile_names())
    rows = json.loads(run("list", "--json")[1])
    assert [row["name"] for row in rows] == list(profile_names())
    h100 = next(row for row in rows if row["name"] == "h100-sxm")
    assert (h100["bf16_flop_per_s"], h100["memory_byte"], h100["power_w"]) == (989.4e12, 80e9, 700.0)


def test_show_gives_every_fact_with_its_source() -> None:
    status, text = run("show", "h100")
    assert status == 0 and "989.4 TFLOP/s" in text and "glennklockwood.com" in text and "matrix.bf16" in text
    shown = json.loads(run("show", "H100", "--json")[1])
    assert shown["matrix"]["bf16"] == {
        "value": 989.4e12, "printed": "989.4 TFLOP/s", "kind": "datasheet", "source": "lockwood-h100",
    }  # fmt: skip
    assert shown["schema"] == "roofline.device/1" and len(shown["digest"]) == 12


def test_lint_exits_with_1_only_for_errors(tmp_path: Path) -> None:
    assert run("lint", "h100", "a100")[0] == 0
    warning = planted(tmp_path, "l4", {"units.count": "60 SM"})
    assert run("lint", str(warning))[0] == 0
    error = planted(tmp_path, "h100-sxm", {"matrix.fp8": "3958 TFLOP/s"})
    status, text = run("lint", "a100", str(error))
    assert status == 1 and f"{error}: error: matrix.fp8: 3958 TFLOP/s" in text and "To fix: " in text


def test_new_prints_or_writes_and_never_overwrites(tmp_path: Path) -> None:
    status, text = run("new", "my-gpu")
    assert status == 0 and 'name = "my-gpu"' in text
    path = tmp_path / "my-gpu.toml"
    assert run("new", "my-gpu", "-o", str(path)) == (0, "")
    assert path.read_text(encoding="utf-8") == text
    path.write_text("mine", encoding="utf-8")
    for target in (path, tmp_path / "other.toml"):
        with pytest.raises(RooflineError):
            run("new", "my-gpu", "-o", str(target))
    assert path.read_text(encoding="utf-8") == "mine" and len(list(tmp_path.iterdir())) == 1
