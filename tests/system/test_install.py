"""The package as a stranger gets it: built from its source, installed elsewhere, used in a folder of their own."""

import io
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from helpers.checkpoints import WHISPER_DIM, write_checkpoint
from helpers.command import ENVIRONMENT, Finished
from helpers.command import run as run_here
from helpers.kernels import compiler
from helpers.studies import built_once, shared_folder

from study.store import Database

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "whisq_core")
CLIPS, TRIALS = 30, 8
_PATIENCE = 300  # seconds until a command that makes no progress counts as hung

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler")


def python(folder: Path, *arguments: object, **environment: str) -> str:
    """What Python prints in `folder`; it has to succeed."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_wheel(folder: Path, source: Path, **environment: str) -> Path:
    """The one wheel that `pip wheel` makes of a source distribution."""
    folder.mkdir()
    python(folder, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", source, **environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, its wheel under wheel/, and the wheel installed under site/."""
    folder = shared_folder(tmp_path_factory, "release")
    with built_once(folder) as first:
        if first:
            checkout = folder / "checkout"
            for package in PACKAGES:
                without = shutil.ignore_patterns("*.so", "__pycache__")
                shutil.copytree(ROOT / package, checkout / package, ignore=without, symlinks=True)
            for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "ablations.yaml"):
                shutil.copy(ROOT / name, checkout / name)
            python(checkout, "-c", "from setuptools.build_meta import build_sdist; build_sdist('..')")
            (source,) = folder.glob("*.tar.gz")
            wheel = build_wheel(folder / "wheel", source)
            python(folder, "-m", "pip", "install", "--quiet", "--no-deps", "--target", "site", wheel)
    return folder


def whisq_study(release: Path, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """The installed command; its libraries come from the Python that runs the tests."""
    return subprocess.Popen(
        [release / "site/bin/whisq-study", *map(str, arguments)],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(release / "site")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(release: Path, folder: Path, *arguments: object) -> Finished:
    """Run the installed command to its end."""
    with whisq_study(release, folder, *arguments) as process:
        out, err = process.communicate(timeout=_PATIENCE)
    return Finished(process.returncode, out, err)


def execute_notebook(release: Path, folder: Path, notebook: Path) -> str:
    """Run the code of a notebook from top to bottom with the installed package; what it prints."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return python(folder, "-c", code, PYTHONPATH=str(release / "site"))


@needs_compiler
def test_one_wheel_serves_every_python_of_a_platform(release: Path) -> None:
    (wheel,) = (release / "wheel").iterdir()

    assert re.fullmatch(r"whisq_study-[\d.]+-py3-none-(linux|macosx)_\w+\.whl", wheel.name)
    kernels = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    variants = ("avx512", "avx2", "base") if platform.machine() == "x86_64" else ("base",)
    assert kernels == {f"whisq_core/_kernels_{variant}.so" for variant in variants}


def test_without_a_compiler_the_wheel_is_a_pure_one_that_leaves_training_to_pytorch(
    release: Path, tmp_path: Path
) -> None:
    (source,) = release.glob("*.tar.gz")

    wheel = build_wheel(tmp_path / "wheel", source, CC="false")

    assert wheel.name.endswith("-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    asked = "from whisq_core import kernels; print(kernels.__file__, *kernels.chosen())"
    found = python(tmp_path, "-c", asked, PYTHONPATH=str(tmp_path / "site"))
    assert found.split() == [str(tmp_path / "site/whisq_core/kernels.py"), "pytorch", "None"]


def test_everything_that_lies_in_the_packages_is_installed(release: Path) -> None:
    checkout, site = release / "checkout", release / "site"
    ours = {path.relative_to(checkout) for package in PACKAGES for path in (checkout / package).rglob("*.*")}

    assert len(ours) > 100
    assert {str(path) for path in ours if not (site / path).is_file()} == set()


def test_the_installed_command_says_what_it_is_and_reads_its_own_files(release: Path, tmp_path: Path) -> None:
    version = re.search(r"whisq_study-([\d.]+)-", next((release / "wheel").iterdir()).name)
    assert version is not None

    assert run(release, tmp_path, "--version").out == f"whisq-study {version[1]}\n"
    helped, audited, diagnosed = (run(release, tmp_path, command) for command in ("--help", "audit", "doctor"))

    assert (helped.status, audited.status, diagnosed.status) == (0, 0, 0), diagnosed.out
    assert "w2v2_modernbert" in audited.out or "ModernBERT" in audited.out
    assert f"{release}/site/study/config/ablations.yaml: 12 rows" in diagnosed.out
    assert re.search(r"^ok  kernels: (avx512|avx2|base|PyTorch)", diagnosed.out, re.MULTILINE)
    assert ("kernels: PyTorch" in diagnosed.out) == (compiler() is None)


def test_the_citation_names_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version


def write_own_study(folder: Path) -> None:
    """Thirty short clips with ratings in a CSV manifest, tiny encoders, and an ablation file of three rows."""
    for family in ("whisper", "qwen3"):
        write_checkpoint(folder / family, family)
    generator, lines = np.random.default_rng(0), ["utterance,system,prompt,audio,omq,ta,split"]
    for i in range(CLIPS):
        noise, high, follows = i % 6 / 6, i % 2, generator.random() < 0.7
        wave = 0.3 * np.sin(2 * np.pi * (1200 if high == follows else 200) * np.arange(9600) / 16_000)
        soundfile.write(folder / f"{i}.wav", wave + 0.05 * noise * generator.normal(size=wave.size).clip(-3, 3), 16_000)
        prompt, split = f"a {'high' if high else 'low'} tone {i % 5}", "dev" if i >= 18 else "train"
        lines.append(f"clip{i},system{i % 6},{prompt},{i}.wav,{5 - 4 * noise:.1f},{4.2 if follows else 1.8},{split}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [
        {"id": "whisq", "label": "WhisQ"},
        {"id": "no_ot", "label": "Without OT", "set": {"loss.ot_weight": 0}},
        {"id": "constant", "label": "Constant", "set": {"model.predictor": "constant"}},
    ]
    file = {
        "name": "tones",
        "base": {
            "backbone": {"audio": "./whisper", "text": "./qwen3"},
            "model": {"feature_dim": WHISPER_DIM},
            "train": {"epochs": 4, "batch_size": 6, "learning_rate": 0.01},
        },
        "seeds": "0-1",
        "sections": [{"title": "Rows", "rows": rows}],
        "search": {
            "trials": TRIALS,
            "top": 1,
            "space": {"train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}},
        },
    }
    (folder / "ablations.yaml").write_text(yaml.safe_dump(file, sort_keys=False), encoding="utf-8")


def stop_after_a_trial(process: subprocess.Popen[str], storage: str) -> Finished:
    """Ctrl-C, as a terminal sends it, once a search has stored the run of its second trial: the first is told then."""
    database = Database(storage)
    before, deadline = database.count_runs(), time.monotonic() + _PATIENCE
    while process.poll() is None and database.count_runs() < before + 2:
        assert time.monotonic() < deadline, "the search hangs"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=_PATIENCE)
    return Finished(process.returncode, out, err)


def own_notebook(folder: Path) -> Path:
    """The notebook of the examples with its paths and names put to this study, as a user would."""
    text = (ROOT / "examples/verdicts.ipynb").read_text(encoding="utf-8")
    for old, new in {
        "results/demo/whisq.db": "results/whisq.db",
        "results/demo/corpus/wav": ".",
        "demo/whisq": "tones/whisq",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "verdicts.ipynb").write_text(text, encoding="utf-8")
    return folder / "verdicts.ipynb"


def test_a_new_user_gets_a_table_predictions_and_a_search_that_can_be_stopped_from_a_csv_of_clips(
    release: Path, tmp_path: Path
) -> None:
    write_own_study(tmp_path)
    data = ("--data", "clips.csv", "--workers", 1)

    table = run(release, tmp_path, "ablate", *data, "--save-models")
    reported = run(release, tmp_path, "report")
    with whisq_study(release, tmp_path, "optimize", *data) as process:
        stopped = stop_after_a_trial(process, f"sqlite:///{tmp_path}/results/whisq.db")
    resumed = run(release, tmp_path, "optimize", *data)
    predicted = run(release, tmp_path, "predict", "tones/whisq", "0.wav", "1.wav", "--prompt", "a high tone")
    notebook = execute_notebook(release, tmp_path, own_notebook(tmp_path))

    assert table.status == 0, table.err
    assert all(label in table.out for label in ("WhisQ", "Without OT", "Constant"))
    assert reported.status == 0, reported.err
    assert "Without OT" in (tmp_path / "results/tones/report.html").read_text(encoding="utf-8")
    assert stopped.status == 130, stopped.err
    assert stopped.err.splitlines()[-1] == "stopped; what was finished is saved, run the same command to go on"
    assert resumed.status == 0, resumed.err
    found = re.search(rf"search 'tones-whisq': (\d+) trials found, going on to {TRIALS}", resumed.err)
    assert found is not None, resumed.err
    assert 1 <= int(found[1]) < TRIALS
    (printed,) = (line.strip() for line in resumed.out.splitlines() if "whisq-study ablate" in line)
    planned = run_here(tmp_path, *shlex.split(printed)[1:], "--plan")
    assert planned.status == 0, planned.err
    assert (tmp_path / "results/tones-whisq/best.yaml").is_file()
    assert predicted.status == 0, predicted.err
    found_clips = pd.read_csv(io.StringIO(predicted.out))
    assert list(found_clips["audio"]) == ["0.wav", "1.wav"]
    assert np.isfinite(found_clips[["omq", "ta", "omq_sd", "ta_sd"]]).all(axis=None)
    assert "\\begin{table" in notebook
