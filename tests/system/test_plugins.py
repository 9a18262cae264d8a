"""Parts that other packages bring: the example package, really installed, through the command line."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers.command import run
from helpers.studies import Place, beginning_in, changed
from system.test_install import python

from study.engine.cluster import VERSIONS, check_versions
from whisq_core import plugins
from whisq_core.errors import InputError

SOURCE = Path(__file__).parents[2] / "examples/plugin"
MODULE = "my_ablation_parts"
ROWS = {
    "gated": {"model.attention": "my-ablation-parts.gated"},
    "cosine": {"loss.alignment": "my-ablation-parts.cosine", "loss.ot_weight": 0.5},
    "loudness": {"backbone.audio": "plugin:my-ablation-parts.loudness"},
}


def forget() -> None:
    """As in a new process, which looks for plug-ins once."""
    plugins.installed.cache_clear()
    sys.modules.pop(MODULE, None)


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
    forget()
    yield folder
    forget()


def update(site: Path, version: str, **replaced: str) -> None:
    """Another version of the package, with other code."""
    metadata = next(site.glob("*.dist-info")) / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", f"Version: {version}"))
    module = site / f"{MODULE}.py"
    for old, new in replaced.items():
        assert old in module.read_text()
        module.write_text(module.read_text().replace(old, new))
    shutil.rmtree(site / "__pycache__", ignore_errors=True)
    forget()


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
    assert "ok  plug-in: encoder my-ablation-parts.loudness of my-ablation-parts==1.0" in looked_at.out

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


def test_a_worker_with_another_version_of_a_plug_in_is_refused(site: Path) -> None:
    check_versions("7", VERSIONS | {"my-ablation-parts": "1.0"})

    with pytest.raises(InputError, match=r"worker 7 has my-ablation-parts 1\.0 instead of 1\.1"):
        check_versions("7", VERSIONS | {"my-ablation-parts": "1.1"})
