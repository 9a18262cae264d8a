"""The compiled kernels: which are chosen, and what they do beyond what `training/test_cpu.py` shows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.kernels import all_kernels, compiler, kernels_in_use

from whisq_core.errors import InputError
from whisq_core.kernels import VARIANTS, Interaction, Kernels, chosen

COMPILED = [name for name in all_kernels() if name != "pytorch"]


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_where_there_is_a_compiler_the_kernels_were_built() -> None:
    name, kernels = chosen()

    assert name in VARIANTS
    assert kernels is not None
    assert kernels.run_here()


def test_the_switch_leaves_everything_to_pytorch(tmp_path: Path) -> None:
    with kernels_in_use("pytorch", tmp_path):
        assert chosen() == ("pytorch", None)


def test_kernels_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    with kernels_in_use("sse9", tmp_path), pytest.raises(InputError) as caught:
        chosen()

    assert caught.value.mistakes == (
        "WHISQ_KERNELS=sse9: no such kernels, or not for this processor. Allowed: avx512, avx2, base where they were "
        "built, the path of a library built from whisq_core/csrc, or pytorch.",
    )


def test_the_command_line_refuses_unknown_kernels_without_a_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "WHISQ_KERNELS": "sse9"}
    command = [sys.executable, "-c", "from study.cli import main; main()", "doctor", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "WHISQ_KERNELS=sse9: no such kernels" in done.stdout
    assert "Traceback" not in done.stderr


def one_clip(frames: torch.Tensor, centre: torch.Tensor, points: torch.Tensor | None = None) -> Interaction:
    """The interaction of these frames with these points, or with nothing."""
    interaction = Interaction(num_frames=len(frames), dim=frames.shape[1], stride=-(-len(frames) // 32) * 32)
    interaction.frames, interaction.centre = frames.data_ptr(), centre.data_ptr()
    if points is not None:
        interaction.num_tokens, interaction.aligns, interaction.tokens = len(points), 1, points.data_ptr()
    return interaction


def rounded_by(kernels: Kernels, interaction: Interaction) -> tuple[torch.Tensor, torch.Tensor]:
    """The rounded frames, and the scores of the points."""
    rounded = torch.empty(interaction.num_frames, interaction.dim, dtype=torch.bfloat16)
    state, work = (torch.full((size(interaction),), torch.nan) for size in (kernels.state_floats, kernels.work_floats))
    interaction.rounded_frames, interaction.state, interaction.work = (
        rounded.data_ptr(),
        state.data_ptr(),
        work.data_ptr(),
    )
    kernels.round(interaction, None)
    return rounded, state[: interaction.num_tokens * interaction.stride].view(
        interaction.num_tokens, interaction.stride
    )


@pytest.mark.parametrize("name", COMPILED)
def test_frames_are_widened_exactly_and_rounded_as_pytorch_rounds(name: str, tmp_path: Path) -> None:
    every_finite_half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    frames = torch.from_numpy(every_finite_half[np.isfinite(every_finite_half)].reshape(-1, 32))
    centre = torch.linspace(-3, 3, 32)
    with kernels_in_use(name, tmp_path):
        _, kernels = chosen()
        assert kernels is not None
        interaction, half_norms = one_clip(frames, centre), torch.empty(len(frames))

        rounded, _ = rounded_by(kernels, interaction)
        kernels.half_norms(interaction, half_norms.data_ptr())

    exact = frames.float() - centre
    assert torch.equal(rounded, exact.to(torch.bfloat16))
    torch.testing.assert_close(half_norms, exact.square().sum(dim=1) / 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize(("num_frames", "num_points"), [(1, 1), (47, 5), (48, 32), (100, 33)])
def test_the_products_of_points_and_frames_are_not_rounded(
    name: str, num_frames: int, num_points: int, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(num_frames, 48, generator=generator).half()
    centre, points = torch.randn(48, generator=generator), torch.randn(num_points, 48, generator=generator)
    with kernels_in_use(name, tmp_path):
        _, kernels = chosen()
        assert kernels is not None
        _, scores = rounded_by(kernels, one_clip(frames, centre, points))

    exact = (points - centre) @ (frames.float() - centre).t()
    torch.testing.assert_close(scores[:, :num_frames], exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores[:, num_frames:], torch.zeros_like(scores[:, num_frames:]))
