from dataclasses import replace

import numpy as np
import pytest

from roofline.footprint import activation_byte, weight_byte
from roofline.serving.engine import Limits
from roofline.serving.memory import kv_memory

from ..builders import SLIDING, device, model, scenario

LIMITS = Limits(max_batch_token=1024.0, max_sequence=64.0, memory_fraction=0.5, reserve_byte=1e9)


def test_the_cache_gets_what_weights_activations_and_reserve_leave_of_the_fraction():
    shape, asked = model(), scenario()
    weights = float(weight_byte(shape, asked.precision, asked.parallelism)[0])
    step = replace(asked, input_token=1024.0)
    activations = float(activation_byte(shape, step, np.float64(1.0), 1024.0))
    found = kv_memory(shape, device(), asked, LIMITS)
    assert float(found.byte[0]) == pytest.approx(0.5 * 16e9 - 1e9 - weights - activations)


def test_sequences_take_whole_blocks_of_every_layer():
    found = replace(kv_memory(model(), device(), scenario(), LIMITS), byte=np.array([1e6]))
    # four layers of 2 · 4 KV heads · 16 dimensions · 2 bytes = 1,024 bytes a token; 100 tokens take 7 blocks of 16
    assert float(found.sequence(100.0)) == pytest.approx(1e6 / (112 * 1024))
    assert float(found.token) == np.floor(1e6 / (16 * 1024)) * 16


def test_sliding_windows_hold_more_sequences():
    full, sliding = (
        replace(kv_memory(shape, device(), scenario(), LIMITS), byte=np.array([1e6]))
        for shape in (model(), model(SLIDING, SLIDING, SLIDING, SLIDING))
    )
    assert float(sliding.sequence(128.0)) == pytest.approx(4.0 * float(full.sequence(128.0)))  # window 32


def test_limits_may_be_arrays_and_nothing_fits_beyond_the_memory():
    found = kv_memory(model(), device(), scenario(), replace(LIMITS, memory_fraction=np.array([0.01, 0.5, 0.9])))
    held = found.sequence(np.full(3, 500.0))
    assert held[0] == 0.0
    assert held[1] < held[2]
