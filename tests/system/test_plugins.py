"""Parts that other packages bring: the example package, really installed, through the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers.command import run
from helpers.plugins import forget
from helpers.studies import Place, beginning_in, changed, copied_to
from system.test_install import python

import study
from study.engine.cluster import VERSIONS, check_versions
from whisq_core.errors import InputError

SOURCE = Path(__file__).parents[2] / "examples/plugin"
MODULE = "my_ablation_parts"
CCC = "ta.utterance.my-ablation-parts.ccc"
ROWS = {
    "gated": {"model.attention": "my-ablation-parts.gated"},
    "cosine": {"loss.alignment": "my-ablation-parts.cosine", "loss.ot_weight": 0.5},
    "loudness": {"backbone.audio": "plugin:my-ablation-parts.loudness"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which pip has put the example package."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source")
    python(folder, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", "site", "./source")
    return folder / "site"


@pytest.fixture
def site(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it from which this process imports, to be changed."""
    folder = tmp_path / "site"
    shutil.copytree(installed, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(folder)
    forget(MODULE)
    yield folder
    forget(MODULE)


def update(site: Path, version: str, **replaced: str) -> None:
    """Another version of the package, with other code."""
    metadata = next(site.glob("*.dist-info")) / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", f"Version: {version}"))
    module = site / f"{MODULE}.py"
    for old, new in replaced.items():
        assert old in module.read_text()
        module.write_text(module.read_text().replace(old, new))
    shutil.rmtree(site / "__pycache__", ignore_errors=True)
    forget(MODULE)


def study_of(folder: Path, finished_study: Place, **rows: dict[str, object]) -> Place:
    """A new study with these rows and one of our own, each with one seed; its features are those of the shared one."""
    features = folder / "features"
    shutil.copytree(finished_study.features, features)
    place = beginning_in(folder / "study", finished_study, features)

    def change(content: dict[str, object]) -> None:
        made = [{"id": name, "label": name.title(), "set": settings} for name, settings in rows.items()]
        content["sections"] = [{"title": "Rows", "rows": [{"id": "whisq", "label": "WhisQ"}, *made]}]
        content |= {"seeds": "0"}
        for key in ("compare", "search"):
            content.pop(key, None)

    changed(place, change)
    return place


def test_rows_with_plug_ins_are_planned_trained_named_and_tied_to_a_version(
    site: Path, finished_study: Place, tmp_path: Path
) -> None:
    place = study_of(tmp_path, finished_study, **ROWS)

    planned, done = run(place.folder, *place.ablate, "--plan"), run(place.folder, *place.ablate)

    assert (planned.status, done.status) == (0, 0), planned.err + done.err
    table = pd.read_csv(place.out / "table.csv").set_index("row")
    predicted = table.loc[["whisq", *ROWS], "ta.utterance.mse"]
    assert predicted.notna().all()
    assert predicted.nunique() == 4, "each part does something"
    written = (place.out / "table.md").read_text(encoding="utf-8")
    assert "model.attention my-ablation-parts.gated of my-ablation-parts==1.0" in written
    looked_at = run(place.folder, "doctor", place.file, "--storage", place.storage, "--features", place.features)
    for part in ("encoder my-ablation-parts.loudness", "metric my-ablation-parts.ccc"):
        assert f"ok  plug-in: {part} of my-ablation-parts==1.0" in looked_at.out

    assert " done: " not in run(place.folder, *place.ablate).err, "nothing trains twice"
    update(site, "1.1")
    again = run(place.folder, *place.ablate, "--plan")

    assert again.status == 2, "with other features it is another study"
    assert "plugin:my-ablation-parts.loudness in float32: " in again.err


def test_a_run_and_its_model_belong_to_the_version_that_they_were_trained_with(
    site: Path, finished_study: Place, tmp_path: Path
) -> None:
    place = study_of(tmp_path, finished_study, gated=ROWS["gated"])
    saved = run(place.folder, *place.ablate, "--rows", "gated", "--save-models")
    assert saved.status == 0, saved.err
    (config,) = (place.out / "models").rglob("config.json")
    model = config.parent
    clip = sorted(place.corpus.rglob("*.wav"))[0]

    used = run(place.folder, "predict", model, clip, "--prompt", "a waltz")
    update(site, "1.1")
    refused = run(place.folder, "predict", model, clip, "--prompt", "a waltz")
    planned = run(place.folder, *place.ablate, "--rows", "gated", "--plan")

    assert used.status == 0, used.err
    assert json.loads((model / "config.json").read_text())["plugins"] == {"model.attention": "my-ablation-parts==1.0"}
    assert refused.status == 2
    assert "my-ablation-parts==1.1" in refused.err
    assert "plugin.model.attention: my-ablation-parts==1.0 -> my-ablation-parts==1.1" in planned.out, planned.out


@pytest.mark.parametrize(
    ("row", "old", "new", "told"),
    [
        ("gated", "dim=1)\n\n\ndef cosine", "dim=0)\n\n\ndef cosine", "instead of a float tensor of shape"),
        ("gated", "text * self.of_text(audio).sigmoid()", "text / 0", "not finite for inputs that are"),
        ("gated", "class Gated", "import nowhere_to_be_found\n\n\nclass Gated", "ModuleNotFoundError"),
        ("cosine", "return 1 - functional", "raise ValueError('no cosine')\n    return 1 - functional", "no cosine"),
        ("loudness", "1e-6).astype(np.float32)", "1e-6).mean(axis=1)", "returns an array of shape"),
    ],
)
def test_a_plug_in_that_fails_is_named_in_one_line(
    site: Path, finished_study: Place, tmp_path: Path, row: str, old: str, new: str, told: str
) -> None:
    update(site, "1.0", **{old: new})
    place = study_of(tmp_path, finished_study, **{row: ROWS[row]})

    failed = run(place.folder, *place.ablate, "--rows", row)

    assert failed.status != 0
    lines = [line for line in failed.err.splitlines() if told in line]
    assert lines
    assert all(f"plug-in 'my-ablation-parts.{row}' of my-ablation-parts==1.0" in line for line in lines)
    assert "Traceback" not in failed.err


def comparing(folder: Path, finished_study: Place, metric: str = CCC) -> Place:
    """A copy of the finished study whose verdicts and search are about a metric of the package."""
    place = copied_to(folder, finished_study)

    def change(content: dict[str, dict[str, object]]) -> None:
        content["compare"]["metric"] = content["search"]["objective"] = metric

    changed(place, change)
    return place


def numbers(place: Place) -> pd.Series:
    """The metric of the package in table_long.csv, by row and seed."""
    table = pd.read_csv(place.out / "table_long.csv")
    return table[table["metric"] == CCC].set_index(["row", "seed"])["value"]


def test_a_metric_is_compared_listed_and_named_with_its_version_and_nothing_trains(
    site: Path, finished_study: Place, tmp_path: Path
) -> None:
    place = comparing(tmp_path / "study", finished_study)

    done = run(place.folder, *place.ablate)
    lines = run(place.folder, "runs", "table2/whisq", "--metric", CCC, "--storage", place.storage, "--json")
    found = numbers(place)

    assert (done.status, lines.status) == (0, 0), done.err + lines.err
    assert "by my-ablation-parts==1.0" in lines.err
    assert " done: " not in done.err
    table = study.load(place.storage).table()
    own = table.results.predictions["whisq"][0, :, 1], table.results.truth[:, 1]
    spread = own[0].var() + own[1].var() + (own[0].mean() - own[1].mean()) ** 2
    assert found["whisq", 0] == pytest.approx(2 * np.cov(*own, bias=True)[0, 1] / spread)
    assert json.loads(lines.out)[0][CCC] == pytest.approx(found["whisq", 0], abs=6e-5)
    assert table.judgement.metric == CCC
    shown = pd.read_csv(place.out / "table.csv").set_index("row")
    assert shown.loc["whisq", CCC] == pytest.approx(found["whisq"].mean())
    assert shown.loc["no_ot", "difference"] == pytest.approx(shown.loc["no_ot", CCC] - shown.loc["whisq", CCC])
    for name in ("table.md", "table.tex", "table.html", "report.html"):
        assert "comes from my-ablation-parts==1.0" in (place.out / name).read_text(encoding="utf-8")

    update(site, "1.1", **{"/ spread": "/ spread / 2"})
    again = run(place.folder, *place.ablate)

    assert again.status == 0, again.err
    assert "comes from my-ablation-parts==1.1" in (place.out / "table.md").read_text(encoding="utf-8")
    np.testing.assert_allclose(numbers(place), found / 2)
    trials = optuna.load_study(study_name="table2", storage=place.storage).trials
    shown_there = {(trial.params["row"], trial.params["seed"]): trial.value for trial in trials}
    assert shown_there["whisq", 0] == pytest.approx(found["whisq", 0] / 2)


def test_a_search_for_a_metric_goes_on_with_the_same_version_only(
    site: Path, finished_study: Place, tmp_path: Path
) -> None:
    place = comparing(tmp_path / "study", finished_study)
    space = {"loss.ot_weight": {"low": 0.01, "high": 1.0}}
    changed(place, lambda content: content["search"].update(top=1, space=space))
    search = ("optimize", *place.ablate[1:], "--trials")

    first = run(place.folder, *search, 1)
    update(site, "1.1")
    refused = run(place.folder, *search, 2)

    assert first.status == 0, first.err
    assert f"objective: {CCC} (my-ablation-parts.ccc of my-ablation-parts==1.0) on split 'inner'" in first.out
    (trial, *_) = optuna.load_study(study_name="table2-whisq", storage=place.storage).trials
    assert trial.value == pytest.approx(trial.user_attrs[CCC], abs=1e-6)
    assert refused.status == 2
    assert "plugin.my-ablation-parts.ccc: my-ablation-parts==1.0 -> my-ablation-parts==1.1" in refused.err


def test_a_metric_that_fails_or_is_not_installed_is_told_before_anything_trains(
    site: Path, finished_study: Place, tmp_path: Path
) -> None:
    place = comparing(tmp_path / "study", finished_study)
    update(site, "1.0", **{"    spread = predicted.var()": "    spread = 1 / 0"})
    broken = run(place.folder, *place.ablate)
    unknown = comparing(tmp_path / "other", finished_study, CCC.replace(".ccc", ".cc"))
    named = run(unknown.folder, *unknown.ablate, "--plan")

    assert broken.errors == [
        "metric plug-in 'my-ablation-parts.ccc' of my-ablation-parts==1.0: ZeroDivisionError: division by zero. "
        "Mend or update that package, or take another part."
    ]
    assert named.status == 2
    assert f"compare: unknown metric '{CCC[:-1]}'. Did you mean '{CCC}'?" in named.err


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_plug_in_that_is_not_installed_is_refused_with_those_that_are(
    site: Path, finished_study: Place, tmp_path: Path, row: str
) -> None:
    name, value = next(iter(ROWS[row].items()))
    wrong = str(value).replace("my-ablation-parts", "your-parts")
    place = study_of(tmp_path, finished_study, other={name: wrong})

    refused = run(place.folder, *place.ablate, "--plan")

    assert refused.status == 2
    assert any(
        wrong.removeprefix("plugin:") in error and f"my-ablation-parts.{row}" in error for error in refused.errors
    )


def test_the_schema_of_init_offers_installed_plug_ins(site: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "init", "new").status == 0

    schema = json.loads((tmp_path / "new/ablations.schema.json").read_text(encoding="utf-8"))
    (own, _) = schema["$defs"]["ModelSpec"]["properties"]["attention"]["anyOf"]
    assert own["enum"] == ["sequence", "pooled", "pooled_query", "cross", "none", "my-ablation-parts.gated"]
    assert CCC in schema["$defs"]["Metric"]["anyOf"][0]["enum"]


def test_a_worker_with_another_version_of_a_plug_in_is_refused(site: Path) -> None:
    check_versions("7", VERSIONS | {"my-ablation-parts": "1.0"})

    with pytest.raises(InputError, match=r"worker 7 has my-ablation-parts 1\.0 instead of 1\.1"):
        check_versions("7", VERSIONS | {"my-ablation-parts": "1.1"})
