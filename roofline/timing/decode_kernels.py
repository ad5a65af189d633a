"""The decode attention kernels of libraries: how they were compiled and what runs beside them. Facts, not fits."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from .attention_common import MATRIX_ROW, Tile, Tiles
from .split_rules import SplitRule, Splits

_ANY = float("inf")


class Auxiliary(StrEnum):
    """Small kernels around the main one."""

    NONE = "none"
    LAYOUT_COPIES = "layout_copies"
    """Queries and outputs of groups are copied to swap heads and rows: both by a kernel where KV heads and sequences
    exceed one, and as they lie in any case."""
    SEQUENCE_SCHEDULER = "sequence_scheduler"
    """A kernel before the main one plans the work in steps of SCHEDULER_SEQUENCES sequences."""


@dataclass(frozen=True, slots=True)
class VectorKernel:
    """A block of threads per query head: TensorRT-LLM's masked multi-head attention.

    `places` of the smallest blocks share a unit. With ⌈places x units / heads⌉ of 2 or 3 blocks are twice as large,
    from 4 on four times. Keys are split every `split_key` (of head dimension 128), at most into ⌈units / heads⌉,
    rounded up, so that the last blocks may need a second wave (getMaxNumSeqLenTile). A pass takes `pass_byte` of keys;
    from `ramp_key` keys on all threads work, on as many bytes as a head's dimension asks for.
    """

    places: float = 4.0
    split_key: float = 512.0
    pass_byte: float = 131072.0
    ramp_key: float = 64.0


@dataclass(frozen=True, slots=True)
class DecodeFacts:
    """How the kernels were compiled and when each is chosen.

    `places`: grouped tiles that one unit works on at a time. `row_multiple`: query heads of a group are padded to it
    (rows of one warp's matrix instruction; 1: the padding is part of the tile's start). `product_multiple`: to that
    with `computes_apart` (8: heads are the columns of Hopper's instruction). `tile_head_dim_share`: share of
    `tile_cycle` (and `vector_cycle`) that grows with the head dimension. `feed_limited`: tiles work through keys at
    `feed_byte_per_clock`, else as fast as memory delivers them. `computes_apart`: the products and softmax of a block
    wait for its keys and take turns with each other, instead of running beside the loads. `splits_whole_context`:
    splits are counted over the cache although a window hides most of it. `combines_early`: the kernel that combines
    splits is launched while the main one ends, or is part of it. `appends_itself`: the grouped kernel also writes the
    new key and value, where that is in the op; else a kernel before it does (the vector kernel always writes them
    itself). `writes_in_passing`: writing more tokens takes no longer. `adds_in_passing`: nor does adding up more
    splits, but for their bytes. `waves_apart`: tiles are equally long and start together, so that each wave takes its
    own time and a last, partial one leaves memory idle.
    `vector`: the other kernel, used for a group of one, for more than `largest_group`, and while KV heads x sequences
    x whole `split.key` blocks x `vector_factor` stay below the number of units.
    """

    tiles: Tiles
    split: Splits
    places: float = 1.0
    row_multiple: float = 1.0
    product_multiple: float = MATRIX_ROW
    tile_head_dim_share: float = 0.5
    feed_limited: bool = True
    computes_apart: bool = False
    splits_whole_context: bool = False
    combines_early: bool = False
    appends_itself: bool = False
    writes_in_passing: bool = False
    adds_in_passing: bool = False
    waves_apart: bool = False
    auxiliary: Auxiliary = Auxiliary.NONE
    vector: VectorKernel | None = None
    largest_group: float = 32.0
    vector_factor: float = 4.0


_FLASH_3 = (Tile(64, 192, 128), Tile(_ANY, 128, 128))
_FLASH_3_FP8 = (Tile(64, 192, 64), Tile(_ANY, 128, 112))


class DecodeKernel(Enum):
    """Decode kernels by name, as a calibration declares them; those not public come from rows used to fit."""

    FLASH_ATTENTION_2 = DecodeFacts(
        (Tile(_ANY, 64, 128),),
        Splits(SplitRule.WAVE_EFFICIENCY, key=128.0, waves=2.0, never_ungrouped=True),
        places=2.0,
        computes_apart=True,
        auxiliary=Auxiliary.LAYOUT_COPIES,
    )
    FLASH_ATTENTION_3 = DecodeFacts(
        _FLASH_3,
        Splits(SplitRule.BALANCED, most=32.0, least=2.0),
        combines_early=True,
        auxiliary=Auxiliary.SEQUENCE_SCHEDULER,
    )
    FLASH_ATTENTION_3_FP8 = DecodeFacts(
        _FLASH_3_FP8,
        Splits(SplitRule.BALANCED, most=32.0, least=2.0),
        combines_early=True,
        auxiliary=Auxiliary.SEQUENCE_SCHEDULER,
    )
    FLASH_ATTENTION_3_CAPPED = DecodeFacts(
        _FLASH_3,
        Splits(SplitRule.BALANCED, most=16.0),
        combines_early=True,
        auxiliary=Auxiliary.SEQUENCE_SCHEDULER,
    )
    FLASH_ATTENTION_3_CAPPED_FP8 = DecodeFacts(
        _FLASH_3_FP8,
        Splits(SplitRule.BALANCED, most=16.0),
        combines_early=True,
        auxiliary=Auxiliary.SEQUENCE_SCHEDULER,
    )
    TENSORRT_AMPERE = DecodeFacts(
        (Tile(_ANY, 128, 128),),
        Splits(SplitRule.TARGET_WAVES, key=128.0, waves=8.0),
        row_multiple=16.0,
        tile_head_dim_share=0.25,
        feed_limited=False,
        combines_early=True,
        writes_in_passing=True,
        adds_in_passing=True,
        waves_apart=True,
        vector=VectorKernel(),
    )
    TENSORRT_HOPPER = DecodeFacts(
        (Tile(_ANY, 128, 128),),
        Splits(SplitRule.TARGET_WAVES, key=128.0, waves=8.0, few_parts=True),
        row_multiple=16.0,
        tile_head_dim_share=0.25,
        feed_limited=False,
        splits_whole_context=True,
        combines_early=True,
        writes_in_passing=True,
        adds_in_passing=True,
        waves_apart=True,
        vector=VectorKernel(),
    )
    TENSORRT_HOPPER_FP8 = DecodeFacts(
        (Tile(_ANY, 64, 128),),
        Splits(SplitRule.TARGET_WAVES, key=128.0, waves=8.0, few_parts=True),
        places=2.0,
        row_multiple=8.0,
        product_multiple=8.0,
        computes_apart=True,
        combines_early=True,
        appends_itself=True,
    )
