"""Saved models: their folders and cards, and what they predict of anybody's clips."""

import io
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.checkpoints import write_checkpoint
from helpers.command import Finished, run
from helpers.results import synthetic_results
from helpers.studies import Place, copied_to
from huggingface_hub import ModelCard

from study.models import Model, write_predictions
from study.models.card import card
from study.store import Database
from whisq_core.corpus import read_corpus
from whisq_core.metrics import METRICS, title

PROMPT = "a slow piano"


@pytest.fixture(scope="module")
def clips(saved: Place) -> pd.DataFrame:
    """The scored clips."""
    return read_corpus(saved.corpus).clips.query("split == 'dev'")


def predicted(place: Place, *arguments: object) -> pd.DataFrame:
    finished = run(place.folder, "predict", *arguments)
    assert finished.status == 0, finished.err
    return pd.read_csv(io.StringIO(finished.out))


def stored(place: Place, seed: int) -> np.ndarray:
    database = Database(place.storage)
    entry = database.cells("table2")["whisq", seed]
    return database.runs([str(entry.run_id)])[str(entry.run_id)].scored["dev"].predicted


def test_a_saved_model_predicts_what_is_stored(saved: Place, clips: pd.DataFrame) -> None:
    model = Model.from_folder(saved.out / "models/whisq-seed0")
    found = model.predict(list(clips["audio"]), list(clips["prompt"]), workers=2)

    assert list(found.columns) == ["audio", "prompt", "omq", "ta"]
    assert np.array_equal(found[["omq", "ta"]].to_numpy(), stored(saved, 0))


def test_a_row_predicts_the_mean_of_its_seeds_with_their_spread(saved: Place, clips: pd.DataFrame) -> None:
    manifest = saved.folder / "clips.csv"
    clips[["prompt", "audio"]].rename(columns={"prompt": "Text", "audio": "wav_path"}).to_csv(manifest, index=False)
    found = predicted(saved, "out/models/whisq", manifest)
    both = np.stack([stored(saved, 0), stored(saved, 1)])

    np.testing.assert_allclose(found[["omq", "ta"]], both.mean(axis=0))
    np.testing.assert_allclose(found[["omq_sd", "ta_sd"]], both.std(axis=0, ddof=1))
    assert set(found["seeds"]) == {2}


def test_a_table_row_and_seed_name_a_model_of_the_results_here(saved: Place, clips: pd.DataFrame) -> None:
    (saved.folder / "results").mkdir(exist_ok=True)
    shutil.copytree(saved.out, saved.folder / "results/demo", dirs_exist_ok=True)
    sound = clips["audio"].iloc[0]
    by_name = predicted(saved, "demo/whisq/1", sound, "--prompt", PROMPT)
    by_folder = predicted(saved, "out/models/whisq-seed1", sound, "--prompt", PROMPT)
    as_json = run(saved.folder, "predict", "demo/twin/1", sound, "--prompt", PROMPT, "--json")

    assert by_name.equals(by_folder)
    assert json.loads(as_json.out) == by_name.to_dict("records")


def test_a_folder_of_clips_is_predicted_into_a_file(saved: Place, clips: pd.DataFrame, tmp_path: Path) -> None:
    for path in clips["audio"].iloc[:3]:
        shutil.copy(path, tmp_path)
    out = tmp_path / "made/scores.csv"
    finished = run(saved.folder, "predict", "out/models/whisq-seed0", tmp_path, "--prompt", PROMPT, "--out", out)

    assert (finished.status, finished.out) == (0, "")
    assert list(pd.read_csv(out)["audio"]) == sorted(
        str(tmp_path / Path(path).name) for path in clips["audio"].iloc[:3]
    )


def test_predictions_take_the_place_of_predictions_and_of_nothing_else(
    saved: Place, clips: pd.DataFrame, tmp_path: Path
) -> None:
    sound = shutil.copy(clips["audio"].iloc[0], tmp_path / "clip.wav")
    out, database = tmp_path / "scores.csv", tmp_path / "whisq.db"
    shutil.copy(saved.folder / "whisq.db", database)
    whole = {path: path.read_bytes() for path in (sound, database)}

    def answer(out: Path, *arguments: object) -> Finished:
        model = "out/models/whisq-seed0"
        return run(saved.folder, "predict", model, sound, "--prompt", PROMPT, "--out", out, *arguments)

    assert answer(out).status == answer(out).status == answer(out, "--json").status == answer(out, "--json").status == 0
    for path, before in whole.items():
        assert refused(answer(path)) == f"--out {path}: is there already, and holds no predictions. Give another file."
        assert path.read_bytes() == before
    assert refused(answer(tmp_path)).startswith(f"--out {tmp_path}: cannot be written")
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "whisq.db", "clip.wav"}


def test_predictions_that_are_broken_off_leave_those_of_before(tmp_path: Path) -> None:
    out, frame = tmp_path / "scores.csv", pd.DataFrame({"audio": ["a"], "prompt": ["=1+1"], "omq": [1.0], "ta": [2.0]})
    write_predictions(iter([frame]), out, False, sys.stdout)

    def broken() -> Iterator[pd.DataFrame]:
        yield frame
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(broken(), out, False, sys.stdout)

    assert out.read_text() == "audio,prompt,omq,ta\na,'=1+1,1.0,2.0\n"
    assert list(tmp_path.iterdir()) == [out]


def test_the_card_is_one_that_the_hub_reads(saved: Place) -> None:
    folder = saved.out / "models/whisq-seed1"
    read = ModelCard.load(folder / "README.md").data
    cells = pd.read_csv(saved.out / "table_long.csv").query("row == 'whisq' and seed == 1").set_index("metric")

    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}
    assert read.library_name == "whisq-study"
    assert {each.metric_name for each in read.eval_results} == {title(name) for name in METRICS}
    for each in read.eval_results:
        name = next(name for name in METRICS if title(name) == each.metric_name)
        assert each.metric_value == pytest.approx(cells.loc[name, "value"], abs=1e-6)


def test_simulated_data_untrained_encoders_and_the_licence_stand_in_the_card() -> None:
    results = synthetic_results(simulated=True)
    results.cells.loc[results.cells["row"] == "whisq", "untrained"] = True
    text = card(results, "whisq", 1)

    assert "**† Simulated data:" in text
    assert "**‡ Untrained encoder:" in text
    assert "was generated by a program" in text
    assert "One training set, these raters, 6 systems" in text
    assert "Nothing is known here about the licence" in card(synthetic_results(simulated=False), "whisq", 1)


def test_simulated_data_is_named_wherever_numbers_show(saved: Place, clips: pd.DataFrame, tmp_path: Path) -> None:
    folder = shutil.copytree(saved.out / "models/whisq-seed0", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "simulated": True, "untrained": True}))
    finished = run(saved.folder, "predict", folder, clips["audio"].iloc[0], "--prompt", PROMPT)

    warning = "trained on simulated data; an encoder is untrained"
    assert f"warning: {warning}" in finished.err
    assert pd.read_csv(io.StringIO(finished.out))["warning"].tolist() == [warning]


def test_a_saved_model_is_not_made_again(saved: Place) -> None:
    again = run(saved.folder, *saved.ablate, "--save-models", "--rows", "whisq,twin")

    assert (again.status, again.err.count("done: ")) == (0, 0)
    assert (
        "its model is not saved"
        not in run(saved.folder, *saved.ablate, "--save-models", "--plan").out.split("no_ot")[0]
    )


def test_a_model_that_does_not_predict_what_is_stored_is_not_saved(saved: Place, tmp_path: Path) -> None:
    place = copied_to(tmp_path, saved)
    entry = Database(place.storage).cells("table2")["no_ot", 0]
    with sqlite3.connect(place.folder / "whisq.db") as connection:
        other = (stored(place, 0) + 0.25).astype("<f8").tobytes()
        connection.execute("UPDATE whisq_predictions SET predicted = ? WHERE run_id = ?", (other, entry.run_id))
    finished = run(place.folder, *place.ablate, "--save-models", "--rows", "no_ot")

    assert finished.status == 1
    assert "no_ot seed 0: trained again, it predicts dev up to 0.2" in finished.err
    assert "failed: no_ot seed 0: no model in" in finished.err
    assert (place.out / "models/no_ot-seed1/README.md").exists()
    assert not (place.out / "models/no_ot-seed0").exists()


def refused(finished: Finished) -> str:
    """The one line that a command was refused with."""
    assert (finished.status, finished.out, len(finished.errors)) == (2, "", 1), finished
    return finished.errors[0]


def test_every_bad_input_is_one_line(saved: Place, clips: pd.DataFrame, tmp_path: Path) -> None:
    sound = clips["audio"].iloc[0]
    model = shutil.copytree(saved.out / "models/whisq-seed0", tmp_path / "model")

    def answer(*arguments: object, prompt: str = PROMPT) -> str:
        return refused(run(saved.folder, "predict", *arguments, "--prompt", prompt))

    assert "no such folder" in answer("nowhere", sound)
    assert "holds no saved model (controls have none). Run" in refused(
        run(tmp_path, "predict", "a/constant/0", sound, "--prompt", PROMPT)
    )
    assert "Run `whisq-study ablate --save-models`" in refused(
        run(tmp_path, "predict", "a/b/0", sound, "--prompt", PROMPT)
    )
    shutil.copytree(saved.out / "models", tmp_path / "results/demo/models")
    assert "no such saved model of ./results (controls have none). Did you" in refused(
        run(tmp_path, "predict", "demo/constant/0", sound, "--prompt", PROMPT)
    )
    assert "allowed: one of them: twin-seed0" in answer("out/models", sound)
    assert "found an empty text" in answer(model, sound, prompt=" ")
    assert "no such file" in answer(model, tmp_path / "no.wav")
    (tmp_path / "text.wav").write_text("not sound at all")
    assert "not a sound file" in answer(model, tmp_path / "text.wav")
    assert "no sound file in this folder" in answer(model, model)
    assert "Give --prompt TEXT" in refused(run(saved.folder, "predict", model, sound))
    assert "no such folder. Give a folder with config.json" in answer(model, sound, "--text", "./nothing-here")
    other = write_checkpoint(tmp_path / "other", "whisper", seed=5)
    assert "not the weights that the model was trained with" in answer(model, sound, "--audio", other)
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-100])
    assert "truncated or corrupt" in answer(model, sound)
    (model / "model.safetensors").unlink()
    assert "model.safetensors: no such file" in answer(model, sound)
    (model / "config.json").write_text('{"model_type": "bert"}')
    assert "found model_type 'bert', allowed: 'whisq'" in answer(model, sound)
    listed = tmp_path / "list.csv"
    listed.write_text("audio,prompt\nclip.wav,\n")
    assert f"{listed}:2: found no prompt" in refused(run(saved.folder, "predict", model, listed))
    listed.write_text("sound,prompt\nclip.wav,a\n")
    assert "Add audio." in refused(run(saved.folder, "predict", model, listed))
