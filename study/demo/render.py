"""Sound for the demo corpus: pieces composed, played, damaged and written, by several processes.

The synthesiser keeps Python's lock, so threads would take turns.
"""

import io
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
from scipy.signal import resample_poly

from study.demo.music import compose
from study.demo.systems import SAMPLE_RATE, Performance, damage

SECONDS = (6.0, 7.5)  # length of the score; RING more are recorded
RING = 0.5  # seconds


@dataclass(frozen=True)
class Piece:
    """What is to be heard in a file, and the random numbers it is made from."""

    path: Path
    performance: Performance
    generator: np.random.Generator


def render(pieces: Sequence[Piece], workers: int, progress: Callable[[int], None]) -> None:
    """Write each piece's file, with one worker in this process. `progress` gets the number of files written.

    Raises:
        OSError: when a file cannot be written.
    """
    files = _write(pieces) if workers == 1 else _written_by_processes(pieces, workers)
    for done, _ in enumerate(files, start=1):
        progress(done)


def render_piece(performance: Performance, soundfont: bytes, generator: np.random.Generator) -> np.ndarray:
    """The audio of a performance: composed, played, resampled from 48 to 16 kHz, damaged."""
    import midirenderer

    seconds = float(generator.uniform(*SECONDS))
    score = compose(performance.played, seconds, performance.jitter, generator)
    stereo, played_rate = soundfile.read(io.BytesIO(midirenderer.render_wave_from(soundfont, score)), dtype="float64")
    assert played_rate % SAMPLE_RATE == 0, f"midirenderer plays at {played_rate} Hz"
    audio = resample_poly(stereo.mean(axis=1), 1, played_rate // SAMPLE_RATE)
    return damage(audio[: round((seconds + RING) * SAMPLE_RATE)], performance.strengths, generator)


def _write(pieces: Sequence[Piece]) -> Iterator[None]:
    """Yields after each file."""
    import pretty_midi

    soundfont = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2").read_bytes()
    for piece in pieces:
        audio = render_piece(piece.performance, soundfont, piece.generator)
        if (parent := multiprocessing.parent_process()) is None or parent.is_alive():
            file = io.BytesIO()  # soundfile itself would not say that the disk is full
            soundfile.write(file, audio, SAMPLE_RATE, format="WAV", subtype="PCM_16")
            piece.path.write_bytes(file.getbuffer())
        yield


def _written_by_processes(pieces: Sequence[Piece], workers: int) -> Iterator[None]:
    """Yields after each file of any process."""
    with ExitStack() as stack:
        shares = [pieces[start::workers] for start in range(min(workers, len(pieces)))]
        links = {stack.enter_context(_process(share)): len(share) for share in shares}
        while links:
            link = cast(Connection, wait(links)[0])
            failure = link.recv()  # EOFError when somebody killed the process
            if failure is not None:
                raise failure
            links[link] -= 1
            if not links[link]:
                del links[link]
            yield


@contextmanager
def _process(pieces: Sequence[Piece]) -> Iterator[Connection]:
    """A process that writes these pieces, and sends None after each, or the OSError that stopped it.

    Unlike the workers of a pool, it ends by itself when the process that reads is killed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_write_and_tell, args=(pieces, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        with closing(ours):
            yield ours
    finally:
        process.terminate()
        process.join()


def _write_and_tell(pieces: Sequence[Piece], link: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reads
    with suppress(BrokenPipeError):  # nobody reads any more
        try:
            for _ in _write(pieces):
                link.send(None)
        except BrokenPipeError:
            raise
        except OSError as error:
            link.send(error)
