"""The torch executor: the same numbers as NumPy, the same counts, and torch's own count of FLOP."""

import builtins
from dataclasses import replace

import numpy as np
import pytest

from roofline.errors import RooflineError
from roofline.measure.numpy_executor import NumpyLibrary
from roofline.measure.steps import Form, ModelRun, StepShape
from roofline.measure.tape import Runner
from roofline.structs import Dtype
from roofline.transformer import LatentForm
from roofline.workload import AttentionKind, Precision

from ..builders import MIXTURE, model
from .runs import executed, planned, tokens
from .test_executors import ABSORBED, CASES, FP32, FUSED, MODELS, UNFUSED

torch = pytest.importorskip("torch", reason="torch is not installed: its executor is not tested")

from roofline.measure.torch_executor import TorchLibrary  # noqa: E402


@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.parametrize("form", [UNFUSED, FUSED], ids=["unfused", "fused"])
def test_fp32_agrees_with_numpy(name, shape, form):
    found_steps, found = executed(TorchLibrary(), MODELS[name], form, shape)
    _, reference = executed(NumpyLibrary(np.float64), MODELS[name], UNFUSED, shape)
    np.testing.assert_allclose(found, reference, rtol=0.0, atol=2e-5)
    if form is UNFUSED:
        numpy_steps, _ = executed(NumpyLibrary(), MODELS[name], form, shape)
        assert [(step.name, step.cost) for step in found_steps] == [(step.name, step.cost) for step in numpy_steps]


@pytest.mark.parametrize(("dtype", "tolerance"), [(Dtype.BF16, 0.1), (Dtype.FP16, 0.012)])
@pytest.mark.parametrize("name", ["mha", "gqa", "sliding", "gpt"])
@pytest.mark.parametrize("form", [UNFUSED, FUSED], ids=["unfused", "fused"])
def test_narrow_formats_agree_with_float64(name, form, dtype, tolerance):
    """Of a spread near 1, an 8-bit (11-bit) mantissa rounded some thirty times leaves about 5 % (0.6 %)."""
    shape = StepShape(2, 7, 40)
    steps, found = executed(TorchLibrary(dtype), MODELS[name], form, shape)
    reference = executed(NumpyLibrary(np.float64), MODELS[name], UNFUSED, shape)[1]
    assert np.abs(found - reference).max() < tolerance
    precision = Precision(dtype, dtype, dtype, dtype)
    assert [(s.name, s.cost.memory_byte) for s in steps] == [
        (row, sum(value for key, value in cost.items() if key.endswith("_byte") and key != "link_byte"))
        for row, cost in planned(MODELS[name], form, shape, precision)
    ]


@pytest.mark.parametrize("dtype", [Dtype.FP32, Dtype.BF16, Dtype.FP16])
def test_int8_weights_agree_and_cost_a_byte_each(dtype):
    shape = StepShape(2, 7, 40)
    steps, found = executed(TorchLibrary(dtype, Dtype.INT8), MODELS["gqa"], UNFUSED, shape)
    reference = executed(NumpyLibrary(np.float64), MODELS["gqa"], UNFUSED, shape)[1]
    assert np.abs(found - reference).max() < 0.12  # 127 steps per row: about 0.5 % per product
    expected = dict(planned(MODELS["gqa"], UNFUSED, shape, Precision(Dtype.INT8, Dtype.INT8, dtype, dtype)))
    for step in steps:
        assert step.cost.weight_read_byte == expected[step.name]["weight_read_byte"], step.name


@pytest.mark.parametrize("name", ["mha", "gqa", "sliding", "gpt", "moe", "latent"])
@pytest.mark.parametrize("shape", [StepShape(2, 12, 0), StepShape(3, 1, 40)], ids=str)
def test_torch_counts_the_same_matrix_flop(name, shape):
    forms = (UNFUSED, ABSORBED) if name == "latent" else (UNFUSED,)
    for form in forms:
        assert flop_counted_by_torch(MODELS[name], form, shape) == sum(
            cost["matrix_flop"] for _, cost in planned(MODELS[name], form, shape, FP32)
        )


def test_torch_counts_routed_experts_as_the_model_does():
    """FLOP of routed rows do not depend on which experts they go to: equal for any routing."""
    mixture = model(MIXTURE)
    shape = StepShape(2, 9, 0)
    assert flop_counted_by_torch(mixture, UNFUSED, shape) == sum(
        cost["matrix_flop"] for _, cost in planned(mixture, UNFUSED, shape, FP32)
    )


def flop_counted_by_torch(shape_of_model, form: Form, shape: StepShape) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    library = TorchLibrary()
    run = ModelRun(library, shape_of_model, form, shape.sequences, shape.context + shape.new_token)
    run.context = shape.context
    counter = FlopCounterMode(display=False)
    with counter:
        run.step(Runner(library), tokens(library, shape_of_model, shape.sequences, shape.new_token))
    return counter.get_total_flops()


def test_formats_that_torch_does_not_run_are_refused():
    with pytest.raises(RooflineError, match="activations: 'fp8' is not known"):
        TorchLibrary(Dtype.FP8)
    with pytest.raises(RooflineError, match="weights: 'int4' is not known"):
        TorchLibrary(Dtype.BF16, Dtype.INT4)


def test_without_torch_the_message_is_clear_and_numpy_works(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.split(".")[0] == "torch":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(RooflineError, match="torch is not installed here"):
        TorchLibrary()
    executed(NumpyLibrary(), MODELS["gqa"], UNFUSED, StepShape(1, 2, 0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_message_is_clear():
    with pytest.raises(RooflineError, match="no CUDA GPU here"):
        TorchLibrary(device="cuda")


def test_latent_form_changes_the_steps_but_not_the_result():
    shape = StepShape(2, 3, 20)
    absorbed = Form(AttentionKind.FUSED, LatentForm.ABSORBED)
    latent = replace(MODELS["latent"], name="latent")
    np.testing.assert_allclose(
        executed(TorchLibrary(), latent, absorbed, shape)[1],
        executed(TorchLibrary(), latent, UNFUSED, shape)[1],
        rtol=0.0,
        atol=2e-5,
    )
