"""A corpus with a mistake: exit status 2, one line per mistake, nothing started; what is merely unusual is taken."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.command import run
from helpers.corpora import write_evaluation_corpus
from helpers.refused import ABLATE, DEV, FETCH, FIRST, TRAIN, WAV, edited, first_line, mistakes, sound

LAYOUT = (
    "a training-phase folder holds sets/train_mos_list.txt and sets/dev_mos_list.txt, "
    "an evaluation-phase folder DATA/sets/eval_list.txt"
)
CORPUS = {
    "a missing folder": (
        lambda folder: shutil.rmtree(folder / "corpus"),
        "corpus: no such folder; give the MusicEval folder (its sets/ and wav/) or a .csv manifest.",
    ),
    "a missing list": (lambda folder: (folder / DEV).unlink(), f"{DEV}: no such list; {LAYOUT}."),
    "a line with 2 fields": (
        first_line(f"{FIRST}.wav,3.4"),
        f"{TRAIN}:1: found 2 fields in '{FIRST}.wav,3.4', allowed: 3 (name.wav,OMQ,TA).",
    ),
    "a line with 4 fields": (
        first_line(f"{FIRST}.wav,3.4,2.0,1.0"),
        f"{TRAIN}:1: found 4 fields in '{FIRST}.wav,3.4,2.0,1.0', allowed: 3 (name.wav,OMQ,TA).",
    ),
    "a label that is no number": (
        first_line(f"{FIRST}.wav,good,2.0"),
        f"{TRAIN}:1: found OMQ 'good', allowed: a number from 1 to 5.",
    ),
    "a label that is NaN": (
        first_line(f"{FIRST}.wav,3.4,nan"),
        f"{TRAIN}:1: found TA 'nan', allowed: a number from 1 to 5.",
    ),
    "a label above 5": (
        first_line(f"{FIRST}.wav,5.2,2.0"),
        f"{TRAIN}:1: found OMQ '5.2', allowed: a number from 1 to 5.",
    ),
    "an utterance listed twice": (
        edited(TRAIN, lambda text: text + text.split(b"\n")[0] + b"\n"),
        f"{TRAIN}:9: duplicate utterance '{FIRST}', already at {TRAIN}:1. List each clip once.",
    ),
    "a clip without prompt": (
        edited("corpus/prompt_info.txt", lambda text: text.replace(b"P003\t", b"P903\t")),
        None,
    ),
    "a list that is not UTF-8": (
        edited(DEV, lambda text: b"\xff" + text),
        f"{DEV}:1: byte 0xff is not UTF-8, allowed: UTF-8. Save the file as UTF-8.",
    ),
    "a missing wav": (
        lambda folder: (folder / WAV).unlink(),
        f"F/{WAV}: no such file. Put the clip there, or correct its name in the list.",
    ),
    "an empty wav": (
        edited(WAV, lambda _: b""),
        f"F/{WAV}: an empty file (0 bytes), allowed: a sound file. {FETCH}",
    ),
    "a truncated wav": (
        edited(WAV, lambda data: data[:1044]),
        f"F/{WAV}: truncated: its header announces 9122 bytes of samples, the file holds 1000. {FETCH}",
    ),
    "a file that is no sound": (
        edited(WAV, lambda _: b"<html>404</html>" * 9),
        f"F/{WAV}: not a sound file (Format not recognised), allowed: what libsndfile reads (wav, flac, ogg, mp3). "
        f"{FETCH}",
    ),
    "a wav shorter than a frame": (
        sound(np.zeros(100)),
        f"F/{WAV}: found 6.2 ms of sound (100 samples), allowed: at least 25 ms. {FETCH}",
    ),
}


@pytest.mark.parametrize("case", CORPUS)
@pytest.mark.parametrize("command", ["ablate", "encode"])
def test_a_corpus_with_a_mistake_is_refused(spoilt: Path, case: str, command: str) -> None:
    change, expected = CORPUS[case]
    change(spoilt)

    found = mistakes(spoilt, command, *ABLATE[1:])

    if expected is None:
        assert all(line.startswith((f"{TRAIN}:", f"{DEV}:")) for line in found)
        assert all("has no prompt: neither" in line and line.endswith("Add it to one of them.") for line in found)
    else:
        assert found == [expected]


FINE = {
    "stereo": sound(np.zeros((8000, 2)) + 0.1),
    "another rate": sound(np.full(22_050, 0.1), 44_100),
    "24 bit": sound(np.full(8000, 0.1), subtype="PCM_24"),
    "silence": sound(np.zeros(8000)),
    "CRLF": edited(TRAIN, lambda text: text.replace(b"\n", b"\r\n")),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_unusual_but_right_is_taken(spoilt: Path, case: str) -> None:
    FINE[case](spoilt)

    finished = run(spoilt, *ABLATE, "--plan")

    assert (finished.status, finished.err) == (0, "")


def test_every_broken_sound_file_is_named(spoilt: Path) -> None:
    wavs = sorted((spoilt / "corpus/wav").iterdir())
    for wav in wavs[:3]:
        wav.write_bytes(b"")

    found = mistakes(spoilt)

    assert sorted(found) == [
        f"F/corpus/wav/{wav.name}: an empty file (0 bytes), allowed: a sound file. {FETCH}" for wav in wavs[:3]
    ]


def test_a_corpus_without_labels_cannot_be_ablated(spoilt: Path) -> None:
    write_evaluation_corpus(spoilt / "evaluation")

    found = mistakes(spoilt, "ablate", "table.yaml", "--data", "evaluation")

    assert found[0] == ("table.yaml:9, row 'whisq': split 'train' has no labelled clips in evaluation. Found: none.")
