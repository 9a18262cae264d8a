"""Clips with their texts and ratings: read from a MusicEval folder or a CSV manifest, checked, named, split.

Every mistake of every list and sound file is reported at once, each with its line. To add a form of corpus: one
function from a path to a `Corpus` (`read_manifest` is the shortest example), one condition in `read_corpus`.
"""

from whisq_core.corpus.audio import CLAP_SAMPLE_RATE, SAMPLE_RATE, load
from whisq_core.corpus.listings import Corpus, read_table
from whisq_core.corpus.table import (
    Split,
    check_audio_files,
    corpus_digest,
    inner_split,
    read_corpus,
    splits,
    system_truth,
    used_clips,
)

__all__ = [
    "CLAP_SAMPLE_RATE",
    "SAMPLE_RATE",
    "Corpus",
    "Split",
    "check_audio_files",
    "corpus_digest",
    "inner_split",
    "load",
    "read_corpus",
    "read_table",
    "splits",
    "system_truth",
    "used_clips",
]
