"""Sound files: decode, mix down, resample, and tell a broken file from a good one."""

import math
import os
import struct
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32

from whisq_core.errors import InputError
from whisq_core.files import open_regular

SAMPLE_RATE = 16_000  # Hz; Whisper and Wav2Vec2
CLAP_SAMPLE_RATE = 48_000  # Hz
MIN_SECONDS = 0.025  # one analysis frame of the encoders
_MAX_BYTES, _MAX_VALUES, _MAX_SECONDS = 2 * 2**30, 2**26, 1800  # of a file; samples of all its channels together
_RATES = (1_000, 768_000)  # Hz: resampling from others takes gigabytes
_TAIL_FRAMES = 4_096
_UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes that cannot go back to fill in the size (a pipe), and RF64


def read(path: Path) -> tuple[Float32[np.ndarray, " samples"], int]:
    """The mono mixdown (mean of the channels) and the sample rate in Hz; what `inspect` finds is an `InputError`."""
    mistake = inspect(path)
    if mistake:
        raise InputError(f"{path}: {mistake}")
    try:
        channels, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: {_not_audio(error)}") from None
    return channels.mean(axis=1, dtype=np.float32), int(rate)


def load(path: Path, rate: int) -> Float32[np.ndarray, " samples"]:
    """The mono mixdown at `rate` Hz, resampled with a polyphase low-pass filter; ceil(samples * rate / old rate).

    Raises:
        InputError: as `read`.
    """
    wave, old_rate = read(path)
    if old_rate == rate:
        return wave
    from scipy.signal import resample_poly  # takes most of a second to import, and planning never resamples

    divisor = math.gcd(rate, old_rate)
    return resample_poly(wave, rate // divisor, old_rate // divisor).astype(np.float32)


def inspect(path: Path) -> str | None:
    """What is wrong with a sound file, what is allowed and what to do; None for a good file.

    Checked: missing, no regular file, empty, too large, not audio, truncated (a WAV's announced size against its
    bytes, since libsndfile shortens it silently; in other formats the announced last frames are decoded), shorter than
    `MIN_SECONDS`, and not finite samples. Any number of channels and silence are fine. Only the end of a file is
    decoded, except for floating-point formats, which alone can hold NaN.
    """
    try:
        with open_regular(path, _MAX_BYTES) as file:
            start = file.read(12) if os.fstat(file.fileno()).st_size else b""  # such as /proc/kmsg, which may block
    except FileNotFoundError:
        return "no such file. Put the clip there, or correct its name in the list."
    except OSError as error:
        return f"cannot be read ({error.strerror}). Check the permissions and the disk."
    if not start:
        return "an empty file (0 bytes), allowed: a sound file. Fetch the clip again."
    try:
        return _truncated_wav(path) or _undecodable(path)
    except soundfile.LibsndfileError as error:
        return _not_audio(error)


def _not_audio(error: soundfile.LibsndfileError) -> str:
    reason = error.error_string.strip().rstrip(".")
    return f"not a sound file ({reason}), allowed: what libsndfile reads (wav, flac, ogg, mp3). Fetch the clip again."


def _undecodable(path: Path) -> str | None:
    with soundfile.SoundFile(path) as sound:
        if not _RATES[0] <= sound.samplerate <= _RATES[1]:
            return (
                f"found a sample rate of {sound.samplerate} Hz, allowed: {_RATES[0]} to {_RATES[1]}. Resample the clip."
            )
        seconds = sound.frames / sound.samplerate
        if sound.frames * sound.channels > _MAX_VALUES or seconds > _MAX_SECONDS:
            found = f"{sound.frames:,} samples in {sound.channels} channels ({seconds:,.0f} s)"
            allowed = f"{_MAX_VALUES:,} in all and {_MAX_SECONDS} s"
            return f"found {found}, allowed: {allowed}. Cut the clip: encoders take its first 30 s."
        if seconds < MIN_SECONDS:
            found = f"{math.floor(10_000 * seconds) / 10} ms of sound ({sound.frames} samples)"
            return f"found {found}, allowed: at least {1000 * MIN_SECONDS:.0f} ms. Fetch the clip again."
        is_float = sound.subtype in ("FLOAT", "DOUBLE")
        wanted = sound.frames if is_float else min(sound.frames, _TAIL_FRAMES)
        sound.seek(sound.frames - wanted)
        tail = sound.read(wanted, dtype="float32", always_2d=True)
        if len(tail) < wanted:
            return _truncated(f"{sound.frames} samples", f"{sound.frames - wanted + len(tail)}")
        if is_float and not np.isfinite(tail).all():
            return f"{np.count_nonzero(~np.isfinite(tail))} samples are NaN or infinite, allowed: finite samples."
    return None


def _truncated_wav(path: Path) -> str | None:
    """Compare the size that the data chunk announces with the bytes that follow; None for other formats."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RIFX") or head[8:] != b"WAVE":
            return None
        order = "<" if head[:4] == b"RIFF" else ">"
        while len(chunk := file.read(8)) == 8:
            announced = struct.unpack(f"{order}I", chunk[4:])[0]
            if chunk[:4] == b"data":
                present = size - file.tell()
                whole = announced == _UNKNOWN_SIZE or announced <= present
                return None if whole else _truncated(f"{announced} bytes of samples", f"{present}")
            file.seek(announced + announced % 2, 1)  # chunks are padded to an even length
    return _truncated(f"{struct.unpack(f'{order}I', head[4:8])[0] + 8} bytes", f"{size}, and no samples")


def _truncated(announced: str, present: str) -> str:
    return f"truncated: its header announces {announced}, the file holds {present}. Fetch the clip again."
