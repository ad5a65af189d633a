"""Shipped profiles against the figures that their sources print, and what the loader refuses."""

import tomllib
from datetime import date
from pathlib import Path

import pytest

from roofline.device import Cpu, Dataflow, Gpu, Systolic
from roofline.errors import RooflineError
from roofline.io.profile_schema import Profile
from roofline.io.profile_template import template
from roofline.io.profiles import load_device, load_profile, profile_folder, profile_names
from roofline.io.units import parse_quantity
from roofline.structs import Dtype

GIB = 2.0**30
NAMES = profile_names()


def facts_in(table: object, path: str = "") -> list[tuple[str, dict]]:
    """Every {value, printed, ...} of a TOML document, found without the schema."""
    if not isinstance(table, dict):
        return []
    if "printed" in table:
        return [(path, table)]
    return [fact for key, value in table.items() for fact in facts_in(value, f"{path}.{key}")]


# --- shipped profiles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_what_its_printed_text_says(name: str) -> None:
    document = tomllib.loads((profile_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    facts = facts_in(document)
    assert len(facts) >= 12
    for path, fact in facts:
        assert fact["value"] == pytest.approx(parse_quantity(fact["printed"]), rel=1e-9), path
        assert fact["source"] in document["sources"], path


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_stated_and_every_upcast_gains_no_flop(name: str) -> None:
    profile = load_profile(name)
    stated = [*profile.matrix, *profile.upcast, *profile.unsupported]
    assert sorted(stated) == sorted(Dtype)
    device = load_device(name)
    for narrow, wide in device.upcast.items():
        assert device.arithmetic(narrow) is wide and wide in device.matrix_flop_per_s
    for dtype in profile.unsupported:
        with pytest.raises(RooflineError, match=f"{name} cannot compute in {dtype}"):
            device.arithmetic(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_the_stem_and_relatives_exist(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.like is None or profile.like in NAMES
    assert profile.price is None or isinstance(profile.price.on_demand.date, date)


def test_the_promised_devices_are_there_and_aliases_are_unambiguous() -> None:
    promised = (
        "v100-sxm2-32gb a100-sxm-40gb a100-sxm-80gb a100-pcie-80gb a10 a40 a6000 l4 l40s h100-sxm h100-pcie h100-nvl "
        "h200-sxm gh200 b200-sxm gb200 rtx-3090 rtx-4090 rtx-pro-6000 mi210 mi250x mi300x mi325x mi355x tpu-v3 tpu-v4 "
        "tpu-v5e tpu-v5p tpu-v6e tpu-v7 trainium2 gaudi2 gaudi3 fpga-u250 fpga-u280 fpga-u55c fpga-v80 fpga-vhk158 "
        "fpga-vck190 epyc-9654 epyc-7763 xeon-8480plus xeon-8380"
    )
    assert set(promised.split()) <= set(NAMES)
    aliases = [alias for name in NAMES for alias in load_profile(name).aliases]
    assert len(aliases) == len(set(aliases)) and not set(aliases) & set(NAMES)


def test_dense_rates_as_published() -> None:
    h100, mi355x, pro = load_device("h100-sxm"), load_device("mi355x"), load_device("rtx-pro-6000")
    assert h100.matrix_flop_per_s[Dtype.BF16] == 989.4e12  # 1979 is sparse
    assert h100.matrix_flop_per_s[Dtype.FP8] == 1978.9e12  # 3958 is sparse
    assert h100.unit_count * 4096 * h100.clock_hz == pytest.approx(989.4e12, rel=1e-4)
    assert load_device("l40s").matrix_flop_per_s[Dtype.FP8] == 733e12  # 1466 is sparse
    assert mi355x.matrix_flop_per_s[Dtype.FP8] == 5000e12  # 10.1 PFLOP/s is sparse,
    assert mi355x.matrix_flop_per_s[Dtype.FP4] == 10100e12  # but dense for fp4
    assert pro.matrix_flop_per_s[Dtype.FP4] == 1871.2e12  # "4000 AI TOPS" is fp4, sparse
    assert load_device("trainium2").matrix_flop_per_s[Dtype.FP8] == 1299e12  # 2563 is sparse
    assert load_device("tpu-v6e").matrix_flop_per_s[Dtype.BF16] == 918e12  # GenZ's 926 is wrong


def test_geforce_rates_accumulate_in_fp32() -> None:
    assert load_device("rtx-4090").matrix_flop_per_s[Dtype.FP16] == 165.15e12  # 330.3 accumulates in fp16
    assert load_device("rtx-3090").matrix_flop_per_s[Dtype.FP16] == 71e12  # 142 accumulates in fp16
    assert load_device("a6000").matrix_flop_per_s[Dtype.BF16] == 154.8e12  # full rate; 38.7 is the CUDA cores


def test_formats_without_a_unit() -> None:
    for name in ("a100-sxm-40gb", "a100-sxm-80gb", "a100-pcie-80gb", "a10", "a40", "a6000", "rtx-3090", "mi210"):
        assert load_device(name).arithmetic(Dtype.FP8) is Dtype.BF16, name
    v100 = load_device("v100-sxm2-32gb")
    assert v100.arithmetic(Dtype.BF16) is Dtype.FP32 and v100.arithmetic(Dtype.INT4) is Dtype.FP16
    assert load_device("tpu-v5p").matrix_flop_per_s[Dtype.FP8] == load_device("tpu-v5p").matrix_flop_per_s[Dtype.BF16]
    assert load_device("mi210").matrix_flop_per_s[Dtype.INT8] == 181e12  # CDNA2: int8 at the fp16 rate


def test_links_count_one_direction() -> None:
    nvlink = {"v100-sxm2-32gb": 150e9, "a100-sxm-80gb": 300e9, "h100-sxm": 450e9, "h200-sxm": 450e9, "b200-sxm": 900e9}
    pcie = {"l40s": 32e9, "l4": 32e9, "a100-pcie-80gb": 32e9, "h100-pcie": 64e9, "rtx-pro-6000": 64e9}
    other = {"mi300x": 448e9, "mi250x": 50e9, "tpu-v5e": 200e9, "tpu-v6e": 400e9, "trainium2": 640e9, "tpu-v4": 270e9}
    for name, one_way in (nvlink | pcie | other).items():
        link = load_device(name).intra_node
        assert link is not None and link.bandwidth_byte_per_s == one_way, name
    nic = load_device("h100-sxm").inter_node
    assert nic is not None and nic.bandwidth_byte_per_s == 50e9  # 400 Gb/s


def test_units_of_one_device() -> None:
    assert load_device("l4").unit_count == 58  # 60 is the whole AD104 die
    gcd = load_device("mi250x")
    assert (gcd.unit_count, gcd.matrix_flop_per_s[Dtype.BF16], gcd.power_w) == (110, 191.5e12, 250)
    assert "one GCD" in gcd.title
    assert load_device("gb200").power_w == 1200  # 2700 W is one CPU with two GPUs
    assert load_device("h100-nvl").dram.capacity_byte == 94e9  # 188 GB is the pair


def test_memory_as_published() -> None:
    expected = {
        "b200-sxm": (180e9, 8000e9),  # usable; 192 GB are built in
        "h200-sxm": (141e9, 4800e9),  # not 141 GiB
        "a100-sxm-80gb": (80e9, 2039e9),
        "h100-pcie": (80e9, 2000e9),  # HBM2e, not the 3350 of the SXM module
        "a10": (24e9, 600e9),  # not 28
        "rtx-pro-6000": (97887 * 2.0**20, 1792e9),  # 512 bit, not 384
        "mi300x": (192 * GIB, 5300e9),
        "tpu-v5e": (16e9, 819e9),
        "xeon-8480plus": (512e9, 8 * 4800e6 * 8),
    }
    for name, numbers in expected.items():
        dram = load_device(name).dram
        assert (dram.capacity_byte, dram.bandwidth_byte_per_s) == numbers, name


def test_fpga_peaks_are_dsp_arithmetic() -> None:
    for name, dsp in (("fpga-u250", 12288), ("fpga-u280", 9024), ("fpga-u55c", 9024)):
        device = load_device(name)
        assert device.structure == Dataflow() and device.unit_count == dsp
        assert device.matrix_flop_per_s[Dtype.INT8] == pytest.approx(dsp * 2 * 2 * 300e6, rel=1e-12)
        assert device.reserve_fraction == 0.0 and device.efficiency.kernel_overhead_s == 0.0
    assert load_device("fpga-u280").matrix_flop_per_s[Dtype.INT8] == pytest.approx(10.83e12, rel=1e-3)
    assert load_device("fpga-vhk158").matrix_flop_per_s[Dtype.INT8] == pytest.approx(7.37e12, rel=1e-3)  # FlightLLM


def test_structures() -> None:
    assert load_device("h100-sxm").structure == Gpu()
    assert load_device("tpu-v6e").structure == Systolic(256, 256) and load_device("tpu-v4").structure == Systolic(
        128, 128
    )
    assert load_device("epyc-9654").structure == Cpu()


def test_assumptions_name_the_fact_and_its_reason() -> None:
    lines = load_device("tpu-v6e").assumptions
    assert any(line.startswith("units.count = 4 MXU: assumed (the page says 2 MXU") for line in lines)
    assumed = [path for path, fact in load_profile("tpu-v6e").facts() if fact.kind == "assumed"]
    assert len(lines) == len(assumed) > 0


# --- names and paths --------------------------------------------------------------------------------------------------


def test_names_and_aliases_in_any_case() -> None:
    assert load_device("H100-SXM") == load_device("h100") == load_device("h100-sxm")
    assert load_device("A100").name == "a100-sxm-80gb"


def test_a_path_reads_that_file_and_its_digest_follows_its_bytes(tmp_path: Path) -> None:
    text = (profile_folder() / "h100-sxm.toml").read_text(encoding="utf-8")
    same, other = tmp_path / "a" / "h100-sxm.toml", tmp_path / "b" / "h100-sxm.toml"
    for path, content in ((same, text), (other, text + "# a word\n")):
        path.parent.mkdir()
        path.write_text(content, encoding="utf-8")
    shipped = load_device("h100-sxm")
    assert load_device(same) == load_device(str(same)) == shipped
    assert len(shipped.digest) == 12 and load_device(other).digest != shipped.digest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h10-sxm", "Did you mean 'h100-sxm'"),
        ("h10", "Did you mean 'h100'"),
        ("mi300", "mi300x"),
        ("../../etc/passwd", "is not a profile name"),
        ("/etc/passwd", "is not a profile name"),
        ("..", "is not a profile name"),
        ("h100-sxm/..", "is not a profile name"),
        ("no-such.toml", "no file 'no-such.toml'"),
        ("/dev/null.toml", "no file"),
        ("x\0y", "is not a profile name"),
        ("", "is not known"),
        ("q" * 5000, "is not known"),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(name: str, message: str) -> None:
    if name == "mi300":
        assert load_device(name).name == message
        return
    with pytest.raises(RooflineError) as caught:
        load_device(name)
    assert message in str(caught.value) and len(str(caught.value)) < 400 and "\n" not in str(caught.value)


# --- contents ---------------------------------------------------------------------------------------------------------


def broken(tmp_path: Path, old: str, new: str, name: str = "h100-sxm") -> str:
    """The message of loading a copy of a shipped profile in which `old` reads `new`."""
    text = (profile_folder() / f"{name}.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RooflineError) as caught:
        load_device(path)
    return str(caught.value)


def bf16(value: str, printed: str) -> str:
    """The start of the line of matrix.bf16 with other contents."""
    return f'bf16 = {{ value = {value}, printed = "{printed}"'


BF16 = bf16("989.4e12", "989.4 TFLOP/s")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (BF16, bf16("1979e12", "989.4 TFLOP/s"), "matrix.bf16: value 1979000000000000.0 is not what"),
        (BF16, bf16("989.4e12", "989.4 TB/s"), "matrix.bf16: printed '989.4 TB/s' is byte·s^-1"),
        (BF16, bf16("989.4e12", "132 SM * 4096 * 1.83 GHz"), "is s^-1; accepted: flop·s^-1"),
        (BF16, bf16("989.4e12", "fast"), "matrix.bf16: printed quantity: 'fast' needs a number"),
        (BF16, bf16("-989.4e12", "989.4 TFLOP/s"), "is out of range; accepted: 1e+08 to 1e+18 FLOP/s"),
        (BF16, bf16("1e300", "1e300 FLOP/s"), "value 1e+300 is out of range"),
        (BF16, bf16("nan", "989.4 TFLOP/s"), "matrix.bf16.value: nan: input should be a finite number"),
        (BF16, bf16("inf", "989.4 TFLOP/s"), "matrix.bf16.value: inf: input should be a finite number"),
        (BF16, bf16('"989.4e12"', "989.4 TFLOP/s"), "matrix.bf16.value: '989.4e12': input should be"),
        (BF16, bf16("true", "989.4 TFLOP/s"), "matrix.bf16.value: True: input should be"),
        (BF16, 'bf16 = { printed = "989.4 TFLOP/s"', "matrix.bf16.value: missing"),
        (BF16, 'bf61 = { value = 989.4e12, printed = "989.4 TFLOP/s"', "matrix.bf61: 'bf61': input should be 'fp32'"),
        ('"measured", source = "gemm-h100-sxm"', '"guessed", source = "gemm-h100-sxm"', "kind: 'guessed'"),
        ('source = "gemm-h100-sxm"', 'source = "gemm"', "efficiency.matrix.source: 'gemm' is not in [sources]"),
        ('source = "gemm-h100-sxm"', 'source = "fma"', "sources.gemm-h100-sxm: no fact cites it"),
        ('printed = "80 GB"', 'printed = "80 GiB"', "(GB is 10^9 byte, GiB is 2^30)"),
        ('printed = "3350 GB/s"', 'printed = "3350 Gb/s"', "(b is a bit, B is a byte)"),
        ("[memory.dram]", "[memory.drma]", "memory.drma: unknown key. Did you mean 'dram'? Accepted: on_chip"),
        (
            'structure = "gpu"',
            'structure = "gpu"\nstructrue = "gpu"',
            "structrue: unknown key. Did you mean 'structure'?",
        ),
        ('structure = "gpu"', 'structure = "npu"', "structure: 'npu': input should be 'gpu', 'systolic'"),
        ('structure = "gpu"', 'structure = "systolic"', "a systolic device needs array_row and array_column"),
        (
            'schema = "roofline.device/1"',
            'schema = "roofline.device/2"',
            "schema: 'roofline.device/2': input should be",
        ),
        ('name = "h100-sxm"', 'name = "h100"', "name: 'h100' is not the file's name; accepted: 'h100-sxm'"),
        ('int4 = "bf16"\n', "", "int4: not stated; accepted: a rate in [matrix]"),
        (
            'int4 = "bf16"',
            'int4 = "bf16"\nbf16 = "fp32"',
            "bf16: stated 2 times (matrix, upcast); accepted: exactly once",
        ),
        ('int4 = "bf16"', 'int4 = "fp4"', "upcast.int4: fp4 has no rate in [matrix]"),
        ('title = "NVIDIA H100', 'title = "\\u001b[31mNVIDIA H100', "has control characters"),
        ("year = 2022", "year = ", "not valid TOML"),
        ("year = 2022", "year = 2022\nyear = 2022", "not valid TOML"),
    ],
)
def test_a_damaged_profile_is_refused_with_field_and_reason(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = broken(tmp_path, old, new)
    assert message in text
    assert "Traceback" not in text and "pydantic" not in text and "\x1b" not in text
    assert all(len(line) < 500 for line in text.splitlines())


def test_broken_toml_shows_its_line(tmp_path: Path) -> None:
    assert "'[memory.dram'" in broken(tmp_path, "[memory.dram]", "[memory.dram")


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    lines = broken(tmp_path, "value = 989.4e12", "value = -1").splitlines()
    text = (profile_folder() / "h100-sxm.toml").read_text(encoding="utf-8").replace("value = ", "value = -")
    path = tmp_path / "h100-sxm.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RooflineError) as caught:
        load_device(path)
    assert len(lines) == 1 and len(str(caught.value).splitlines()) == 21
    assert str(caught.value).splitlines()[-1].endswith("more")


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    contents = {
        b"#" * 1_000_001: "larger than 1 MB",
        b"\xff\xfe\x00": "not UTF-8",
        b"": "schema: missing",
        b"x = " + b"[" * 5000: "nested too deeply",
        b"a." * 3000 + b"b = 1": "a: unknown key",
        b"year." + b"a." * 3000 + b"b = 1": "year: a table: input should be a valid integer",
        b'"\\u001b[2J" = 1': "unknown key",
    }
    for content, message in contents.items():
        path.write_bytes(content)
        with pytest.raises(RooflineError) as caught:
            load_device(path)
        assert message in str(caught.value) and "\x1b" not in str(caught.value)
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(RooflineError, match="no file"):
        load_device(folder)


# --- template ---------------------------------------------------------------------------------------------------------

L40S_ANSWERS = [
    ("? SM", "142 SM"), ("? MHz", "2520 MHz"), ("? TFLOP/s", "91.6 TFLOP/s"), ("? TFLOP/s", "183 TFLOP/s"),
    ("? TFLOP/s", "362.05 TFLOP/s"), ("? TFLOP/s", "362.05 TFLOP/s"), ("? TFLOP/s", "733 TFLOP/s"),
    ("? TOP/s", "733 TOP/s"), ("? TFLOP/s", "91.6 TFLOP/s"), ("? MB", "96 MB"), ("? GB", "48 GB"),
    ("? GB/s", "864 GB/s"), ("? GB/s / 2", "64 GB/s / 2"), ("? W", "350 W"),
]  # fmt: skip


def fill(text: str) -> str:
    """The template as someone with the L40S datasheet fills it: the blanks from top to bottom."""
    for blank, answer in L40S_ANSWERS:
        old = f'value = 0, printed = "{blank}"'
        assert old in text
        text = text.replace(old, f'value = {parse_quantity(answer)!r}, printed = "{answer}"', 1)
    for blank, answer in (("title", "My GPU"), ("vendor", "NVIDIA"), ("sheet ", "datasheet of today")):
        text = text.replace(f'{blank} = "?"', f'{blank} = "{answer}"')
    return text


def test_a_filled_template_loads_and_an_unfilled_one_says_what_is_blank(tmp_path: Path) -> None:
    path = tmp_path / "my-gpu.toml"
    path.write_text(template("my-gpu"), encoding="utf-8")
    with pytest.raises(RooflineError) as caught:
        load_device(path)
    assert "title: is a blank; fill it" in str(caught.value) and "sources.sheet: is a blank" in str(caught.value)
    assert "units.count: value 0.0 is out of range" in str(caught.value)
    path.write_text(fill(template("my-gpu")), encoding="utf-8")
    mine, shipped = load_device(path), load_device("l40s")
    assert mine.matrix_flop_per_s == shipped.matrix_flop_per_s and mine.intra_node == shipped.intra_node
    assert mine.dram.capacity_byte == 48e9 and isinstance(load_profile(path), Profile)


@pytest.mark.parametrize("name", ["", "My GPU", "../x", "a" * 41, "x\ny"])
def test_a_template_needs_a_name_that_a_profile_can_have(name: str) -> None:
    with pytest.raises(RooflineError, match="cannot name a profile"):
        template(name)
