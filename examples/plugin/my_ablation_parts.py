"""Parts of one's own for whisq-study, one of each kind; `whisq_core.plugins` says what each is called with."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def mean(sequence: Tensor, mask: Tensor) -> Tensor:
    """The mean over valid positions, [batch, dim]."""
    weights = mask.to(sequence.dtype).unsqueeze(2)
    return (sequence * weights).sum(dim=1) / weights.sum(dim=1)


class Gated(nn.Module):
    """Each pooled side, weighted dimension by dimension by a gate that reads the other one."""

    def __init__(self, spec) -> None:
        super().__init__()
        self.of_audio = nn.Linear(spec.feature_dim, spec.feature_dim)
        self.of_text = nn.Linear(spec.feature_dim, spec.feature_dim)

    def forward(self, audio: Tensor, audio_mask: Tensor, text: Tensor, text_mask: Tensor) -> Tensor:
        """The TA head's input, [batch, 2 dim]."""
        audio, text = mean(audio, audio_mask), mean(text, text_mask)
        return torch.cat([audio * self.of_audio(text).sigmoid(), text * self.of_text(audio).sigmoid()], dim=1)


def cosine(audio: Tensor, audio_mask: Tensor, text: Tensor, text_mask: Tensor, loss) -> Tensor:
    """One minus the cosine of both means, [batch]."""
    return 1 - functional.cosine_similarity(mean(audio, audio_mask), mean(text, text_mask))


class Loudness:
    """The spectrum of each tenth of a second in 16 bands, as decibels: an encoder without weights."""

    dim, sample_rate, frame_rate = 16, 16_000, 10.0

    def __init__(self, kind: str) -> None:
        if kind != "audio":
            raise ValueError("it encodes audio, not text")

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Frames of a mono wave, [frames, 16]."""
        length = self.sample_rate // 10
        frames = np.resize(wave, (max(1, len(wave) // length), length))
        power = np.abs(np.fft.rfft(frames, axis=1)[:, 1:801]) ** 2
        return 10 * np.log10(power.reshape(len(frames), self.dim, -1).mean(axis=2) + 1e-6).astype(np.float32)


def ccc(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Lin's concordance correlation coefficient: agreement in order and in scale (Biometrics 1989)."""
    spread = predicted.var() + truth.var() + (predicted.mean() - truth.mean()) ** 2
    return 2 * np.mean((predicted - predicted.mean()) * (truth - truth.mean())) / spread


ccc.higher_is_better = True
