"""How gradients become steps: clipping scopes, scaling, precision, threads."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from whisq_core.spec import TrainSpec
from whisq_core.training.step import Optimizer, Updater, autocast


def parameters(*gradients: list[float]) -> list[nn.Parameter]:
    """Zeros with the given gradients."""
    made = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(len(gradient)))
        parameter.grad = torch.tensor(gradient)
        made.append(parameter)
    return made


def stepped(scope: str, omq: list[nn.Parameter], ta: list[nn.Parameter]) -> list[float]:
    spec = TrainSpec.model_validate(
        {"clip_scope": scope, "learning_rate": 1.0, "momentum": 0.0, "clip_norm": 1.0, "device": "cpu"}
    )
    return Updater(omq, ta, spec.model_copy(update={"precision": "float32"})).step().tolist()


def test_per_head_clips_each_group_by_its_own_norm() -> None:
    (omq,), (ta,) = parameters([3.0, 4.0]), parameters([0.3, 0.4])

    norms = stepped("per_head", [omq], [ta])

    assert norms == pytest.approx([5.0, 0.5])
    torch.testing.assert_close(omq.data, torch.tensor([-0.6, -0.8]), rtol=1e-5, atol=0)
    torch.testing.assert_close(ta.data, torch.tensor([-0.3, -0.4]))


def test_global_clips_all_by_one_norm() -> None:
    (omq,), (ta,) = parameters([3.0, 0.0]), parameters([0.0, 4.0])

    stepped("global", [omq], [ta])

    torch.testing.assert_close(omq.data, torch.tensor([-0.6, 0.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(ta.data, torch.tensor([0.0, -0.8]), rtol=1e-5, atol=0)


def test_none_clips_nothing() -> None:
    (omq,), (ta,) = parameters([3.0]), parameters([4.0])

    stepped("none", [omq], [ta])

    assert (omq.item(), ta.item()) == (-3.0, -4.0)


def test_omq_moves_alike_whatever_the_other_gradients_are() -> None:
    moved = []
    for other in ([0.1], [1e6], [0.0]):
        (omq,), ta = parameters([3.0, 4.0]), parameters(other)
        stepped("per_head", [omq], ta)
        moved.append(omq.data)

    assert torch.equal(moved[0], moved[1])
    assert torch.equal(moved[0], moved[2])


def test_parameters_without_gradient_stay() -> None:
    (omq,), (ta,) = parameters([3.0]), parameters([4.0])
    idle = nn.Parameter(torch.ones(2))

    stepped("per_head", [omq], [ta, idle])

    assert torch.equal(idle.data, torch.ones(2))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_float16_scales_the_loss_and_unscales_before_clipping(optimizer: str) -> None:
    results = []
    for precision in ("float32", "float16"):
        spec = TrainSpec.model_validate({"optimizer": optimizer, "learning_rate": 0.1, "clip_norm": 0.5})
        parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
        updater = Updater([], [parameter], spec.model_copy(update={"device": "cpu", "precision": precision}))
        for _ in range(3):
            torch.autograd.backward(updater.scale(parameter.square().sum()))
            norms = updater.step()
        results.append((parameter.detach().clone(), norms))

    (plain, norms), (scaled, scaled_norms) = results
    torch.testing.assert_close(plain, scaled)
    assert scaled_norms[1] == pytest.approx(norms[1].item())


def test_a_step_whose_scaled_gradient_overflows_is_skipped() -> None:
    spec = TrainSpec(device="cpu", precision="float16")
    parameter = nn.Parameter(torch.tensor([1.0]))
    updater = Updater([], [parameter], spec)

    torch.autograd.backward(updater.scale(parameter.sum() * 1e38))
    updater.step()
    assert parameter.item() == 1.0

    torch.autograd.backward(updater.scale(parameter.sum() * 0.1))
    updater.step()
    assert parameter.item() != 1.0, "the scale has come down, and the skipped step has left nothing behind"


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_pytorchs_to_the_bit(name: str, kind: type[torch.optim.Adam], weight_decay: float) -> None:
    def theirs(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return kind(parameters, 0.01, betas=(0.8, 0.999), weight_decay=weight_decay, fused=True)

    settings = {"optimizer": name, "learning_rate": 0.01, "momentum": 0.8, "weight_decay": weight_decay}
    assert_moves_as(theirs, settings)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.8, False), (0.8, True)])
def test_sgd_is_pytorchs_to_the_bit(momentum: float, nesterov: bool, weight_decay: float) -> None:
    def theirs(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, 0.01, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)

    settings = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": momentum, "nesterov": nesterov}
    assert_moves_as(theirs, {**settings, "weight_decay": weight_decay})


def assert_moves_as(theirs: Callable[[list[nn.Parameter]], torch.optim.Optimizer], settings: dict[str, object]) -> None:
    """Two parameters of which one gets a gradient in every other step only, and one that never gets any."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(5, 7, generator=generator), torch.randn(33, generator=generator), torch.ones(2)]
    ours_moved, theirs_moved = ([nn.Parameter(values.clone()) for values in start] for _ in range(2))
    ours, reference = Optimizer(ours_moved, TrainSpec.model_validate(settings)), theirs(theirs_moved)
    for step in range(6):
        for place in range(1 + (step + 1) % 2):
            gradient = torch.randn(start[place].shape, generator=generator)
            ours_moved[place].grad, theirs_moved[place].grad = gradient.clone(), gradient.clone()
        ours.step()
        reference.step()
        ours.zero_grad()
        reference.zero_grad()

    for moved, expected in zip(ours_moved, theirs_moved, strict=True):
        assert torch.equal(moved, expected)


def test_neither_model_nor_optimiser_imports_pytorchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from whisq_core.model import WhisQ\n"
        "from whisq_core.training.step import Updater\n"
        "from whisq_core.spec import ModelSpec, TrainSpec\n"
        "parameters = list(WhisQ(ModelSpec(), 512, 384, seed=0).parameters())\n"
        "for parameter in parameters: parameter.grad = torch.ones_like(parameter)\n"
        "Updater([], parameters, TrainSpec(device='cpu', precision='float32')).step()\n"
        "assert {'torch._dynamo', 'sympy'}.isdisjoint(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_autocast_follows_the_precision() -> None:
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16), ("float16", torch.float16)):
        with autocast(TrainSpec.model_validate({"device": "cpu", "precision": precision})):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
