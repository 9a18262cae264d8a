"""Encoding in batches, as a GPU wants it: the same features, decoded by processes, halved where memory is short."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.corpora import write_official_corpus
from helpers.encoders import opened

from whisq_core.encoders import Progress, encode, missing, open_dataset
from whisq_core.encoders.encoder import Encoder
from whisq_core.errors import InputError
from whisq_core.spec import BackboneSpec


@pytest.mark.parametrize("audio", ["whisper", "wav2vec2"])
def test_batches_give_the_features_of_single_items(data, folders, tmp_path, audio):
    """The way of a GPU on a CPU: clips of unlike lengths, only alike ones in one batch where a model takes no mask."""
    spec, seen = BackboneSpec(audio=str(folders[audio]), text=str(folders["qwen3"])), list[Progress]()
    encode(*opened(data, spec, tmp_path / "batches"), device="cpu", batch_size=4, progress=seen.append)
    encode(*opened(data, spec, tmp_path / "single"), device="cpu")

    batches, single = (
        open_dataset(*opened(data, spec, tmp_path / way), np.arange(20)) for way in ("batches", "single")
    )
    assert [each.done for each in seen if each.kind == "audio"] == [4, 8, 12, 16, 20]
    for found, expected in ((batches.audio, single.audio), (batches.text, single.text)):
        assert (found.num_frames == expected.num_frames).all()
        assert (found.num_valid == expected.num_valid).all()
        assert found.pooled("all").allclose(expected.pooled("all"), atol=1e-4)


def test_clips_are_decoded_by_processes_and_broken_ones_named(spec, tmp_path):
    many = write_official_corpus(tmp_path / "corpus", num_train=30, num_dev=6, seconds=0.3)
    corpus, digests, backbone, root = opened(many, spec, tmp_path)
    changed = Path(corpus.clips["audio"].iloc[3])
    soundfile.write(changed, np.zeros(16_000), 16_000)
    with pytest.raises(InputError) as raised:
        encode(corpus, digests, backbone, root, device="cpu", batch_size=8)
    assert raised.value.mistakes == (
        f"{corpus.clips['utterance'].iloc[3]}: {changed}: changed since the corpus was read. Run the command again.",
    )
    assert missing(corpus, digests, backbone, root) == (1, 0)


def test_a_batch_that_does_not_fit_is_halved_and_said(data, spec, undisturbed, tmp_path, monkeypatch):
    """PyTorch's own error, raised by an encoder that takes three items at most."""
    run = Encoder.run

    def run_of_a_small_device(encoder, items):
        if len(items) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(encoder, items)

    monkeypatch.setattr(Encoder, "run", run_of_a_small_device)
    told: list[str] = []
    encode(*opened(data, spec, tmp_path), device="cpu", batch_size=8, notify=told.append)

    assert told[-1] == "4 audio items do not fit into the device's memory: 2 at a time"
    assert missing(*opened(data, spec, tmp_path)) == (0, 0)
