"""Small models and devices written out by hand, so that tests do not depend on presets or profiles."""

from dataclasses import replace

from roofline.device import Cpu, Dataflow, Device, Efficiency, Gpu, Link, MemoryLevel, Structure, Systolic
from roofline.model import Attention, LatentAttention, Layer, Mlp, Model, Moe, Norm, Position
from roofline.structs import Dtype
from roofline.workload import AttentionKind, Parallelism, Precision, Scenario

DENSE = Layer(Attention(heads=8.0, kv_heads=4.0, head_dim=16.0), Mlp(width=256.0, gated=True))
SLIDING = replace(DENSE, attention=replace(DENSE.attention, window=32.0))
MIXTURE = Layer(
    Attention(heads=8.0, kv_heads=8.0, head_dim=16.0),
    Moe(experts=8.0, per_token=2.0, width=64.0, gated=True, shared=1.0, shared_width=64.0),
)
LATENT = Layer(
    LatentAttention(heads=8.0, query_rank=48.0, kv_rank=32.0, nope_dim=16.0, rope_dim=8.0, value_dim=16.0),
    Mlp(width=256.0, gated=True),
)


def model(*layers: Layer, **changes: object) -> Model:
    """A model of `layers` (four dense ones unless given)."""
    base = Model(
        name="test",
        family="test",
        hidden=128.0,
        vocabulary=1024.0,
        layers=layers or (DENSE,) * 4,
        tied_embeddings=False,
        max_context=4096.0,
        norm=Norm.RMS,
        position=Position.ROTARY,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def device(structure: Structure | None = None, **changes: object) -> Device:
    """A device with round numbers: 100 TFLOP/s bf16, 1 TB/s, 16 GB."""
    base = Device(
        name="test-device",
        title="Test device",
        structure=structure or Gpu(),
        unit_count=100.0,
        clock_hz=1e9,
        matrix_flop_per_s={Dtype.FP32: 10e12, Dtype.BF16: 100e12, Dtype.FP16: 100e12, Dtype.INT8: 200e12},
        vector_flop_per_s=10e12,
        upcast={Dtype.FP8: Dtype.BF16, Dtype.INT4: Dtype.BF16, Dtype.FP4: Dtype.BF16},
        on_chip=MemoryLevel(20e6, 20e12),
        last_level_cache=MemoryLevel(40e6, 4e12),
        dram=MemoryLevel(16e9, 1e12),
        reserve_fraction=0.1,
        intra_node=Link(100e9, 8.0, 1e-6),
        inter_node=Link(25e9, 1024.0, 5e-6),
        power_w=300.0,
        idle_power_w=None,
        price_usd_per_hour=3.6,
        efficiency=Efficiency(matrix=0.8, vector=0.5, dram=0.8, link=0.75, kernel_overhead_s=2e-6),
        digest="test",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


STRUCTURES: tuple[Structure, ...] = (Gpu(), Systolic(128.0, 128.0), Dataflow(), Cpu())


def scenario(**changes: object) -> Scenario:
    """Batch 4, 64 tokens in, 16 out, bf16, one device, fused attention."""
    base = Scenario(4.0, 64.0, 16.0, Precision(), Parallelism(), AttentionKind.FUSED)
    return replace(base, **changes)  # type: ignore[arg-type]
