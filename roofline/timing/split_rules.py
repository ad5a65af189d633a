"""How decode kernels split the keys of one tile over compute units: the rules of the libraries, by name."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ..structs import Array
from .blocks import where

MOST_SPLITS = 128
"""Most splits that FlashAttention considers."""

GOOD_ENOUGH = 0.85
"""It takes the fewest splits that fill this share of their waves, relative to the best number."""

NEARLY_FULL = 0.8
"""It does not split where tiles alone fill this share of the places."""

CACHED_ROWS = 64
"""Shapes whose splits are compared at a time: 64 KiB a temporary."""

_SPLITS = np.arange(1.0, MOST_SPLITS + 1.0)

FEW_PARTS = 8.0
"""TensorRT-LLM splits n parts of keys into √(8 n) at most (computeMultiBlockCount)."""

SPREAD = 1.1
"""Head-room of the balanced rule over an even share of key blocks per unit."""


class SplitRule(StrEnum):
    """Which number of splits a kernel takes."""

    WAVE_EFFICIENCY = "wave_efficiency"
    """FlashAttention-2: the fewest splits that waste little of a wave, over `waves` tiles per unit."""
    BALANCED = "balanced"
    """FlashAttention-3 with prepared metadata: an even share of blocks per unit, at most `most` / sequences."""
    TARGET_WAVES = "target_waves"
    """TensorRT-LLM: `waves` tiles per unit, at least `key` keys each (computeMultiBlockCount,
    https://github.com/NVIDIA/TensorRT-LLM, decoderXQAImplCommon.h)."""


@dataclass(frozen=True, slots=True)
class Splits:
    """A rule and its numbers. `never_ungrouped`: no splits where every query head has its own keys. `few_parts`: of n
    parts of `key` keys at most √(8 n) are made, lest adding them up take longer (newer releases of TensorRT-LLM).
    """

    rule: SplitRule
    key: float = 128.0
    waves: float = 1.0
    most: float = 128.0
    least: float = 1.0
    never_ungrouped: bool = False
    few_parts: bool = False


def chosen_splits(
    splits: Splits, tiles: Array, sequences: Array, length: Array, column: Array, group: Array, unit_count: float
) -> Array:
    """Splits of each tile's `length` keys; elementwise, at least one, never an empty split."""
    blocks = np.ceil(length / column)
    match splits.rule:
        case SplitRule.TARGET_WAVES:
            most = np.floor(length / splits.key)
            if splits.few_parts:
                most = np.minimum(most, np.rint(np.sqrt(FEW_PARTS * most)))
            chosen = np.minimum(np.floor(splits.waves * unit_count / tiles), most)
            return np.maximum(chosen, 1.0)
        case SplitRule.BALANCED:
            share = np.maximum(np.ceil(SPREAD * tiles * blocks / unit_count), 1.0)
            limit = np.maximum(np.ceil(splits.most / sequences), splits.least)
            chosen = np.minimum(np.ceil(blocks / share), limit)
        case SplitRule.WAVE_EFFICIENCY:
            chosen = _wave_efficient(tiles, blocks, splits.waves * unit_count)
    chosen = np.maximum(chosen, 1.0)
    if splits.never_ungrouped:
        chosen = where(group <= 1.0, 1.0, chosen)
    whole: Array = np.ceil(blocks / np.ceil(blocks / chosen))
    return whole


def _wave_efficient(tiles: Array, blocks: Array, places: float) -> Array:
    """The fewest splits whose waves are filled to GOOD_ENOUGH of the best; one where the tiles nearly fill a wave."""
    flat_tiles, flat_blocks = tiles.reshape(-1), blocks.reshape(-1)
    chosen = np.ones(flat_tiles.size)
    (open_rows,) = ((flat_tiles < NEARLY_FULL * places) & (flat_blocks > 1.0)).nonzero()
    for start in range(0, open_rows.size, CACHED_ROWS):
        rows = open_rows[start : start + CACHED_ROWS]
        share = np.ceil(flat_blocks[rows, None] / _SPLITS)
        waves = flat_tiles[rows, None] * _SPLITS / places
        efficiency = waves / np.ceil(waves)
        efficiency[:, 1:] *= share[:, 1:] != share[:, :-1]  # one more split than needed: some would be empty
        good = efficiency >= GOOD_ENOUGH * np.maximum.reduce(efficiency, axis=-1, keepdims=True)
        chosen[rows] = 1.0 + good.argmax(axis=-1)
    return chosen.reshape(tiles.shape)
