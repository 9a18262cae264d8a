"""The study of a table is a view of the stored runs: complete, each cell once, made anew where it no longer fits."""

from dataclasses import replace
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from helpers.ablation_files import SMALL, read
from helpers.dashboards import CLIPS, dashboard, get_json, stored_run
from optuna.artifacts import get_all_artifact_meta
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note

from study.config import AblationFile
from study.dashboard import annotate, open_storage, open_study, show_table
from study.results import collect
from study.store import CellEntry, Database, StoredCorpus
from whisq_core.errors import InputError
from whisq_core.metrics import EXTRA, METRICS

METRIC = "ta.utterance.srcc"
NOTHING = dict.fromkeys((*METRICS, *EXTRA), float("nan"))
GOOD = {METRIC: 0.123456789, "omq.utterance.mse": 0.5}


class Table:
    """A table with two rows whose runs are made up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: AblationFile = read(folder, SMALL)
        self.database = Database(f"sqlite:///{folder}/whisq.db")
        with self.database.writing("a test"):
            self.database.save_corpus(StoredCorpus("0123", "tiny", True, CLIPS, None))

    def finish(self, row: str, seed: int, metrics: dict[str, float] = GOOD, run_id: str | None = None) -> str:
        """Store a done run for a cell; returns its id."""
        run = replace(
            stored_run(run_id or f"{row}-{seed}", metrics={**NOTHING, **metrics}),
            row=row,
            seed=seed,
            identity={**self.file.row(row).at_seed(seed).deciding_settings(), "corpus": "0123"},
            details={"system_truth": "clips"},
        )
        with self.database.writing("a test"):
            self.database.save_run(run)
            self.point(row, seed, run.run_id)
        return run.run_id

    def fail(self, row: str, seed: int, reason: str) -> None:
        """Store a failed run for a cell."""
        run = replace(
            stored_run(f"{row}-{seed}"), row=row, seed=seed, state="failed", reason=reason, scored={}, curve=[]
        )
        with self.database.writing("a test"):
            self.database.save_run(run)
            self.point(row, seed, run.run_id)

    def point(self, row: str, seed: int, run_id: str | None, problem: str | None = None) -> None:
        """Point a cell at a run, or say why it has none."""
        with self.database.writing("a test"):
            self.database.save_cells("ablations", [CellEntry(row, seed, run_id, problem, "0123")])

    def show(self) -> optuna.Study:
        """Bring the view up to date."""
        with self.database.writing("a test"):
            show_table(self.database, collect(self.file, self.database))
        return self.study()

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="ablations", storage=open_storage(self.database))

    def cells(self) -> dict[tuple[str, int], FrozenTrial]:
        """The trials of the view by row and seed, without superseded ones."""
        trials = [trial for trial in self.study().trials if "superseded" not in trial.user_attrs]
        found = {(trial.params["row"], trial.params["seed"]): trial for trial in trials}
        assert len(found) == len(trials), "each cell once"
        return found

    def superseded(self) -> dict[str, str]:
        """Why the table shows a run no more, by run."""
        trials = [trial for trial in self.study().trials if "superseded" in trial.user_attrs]
        assert all((trial.state, trial.value) == (TrialState.FAIL, None) for trial in trials)
        return {trial.user_attrs["run_id"]: trial.user_attrs["superseded"] for trial in trials}

    def files(self) -> int:
        """How many artifacts lie in the folder; all of them belong to a trial."""
        study, storage = self.study(), open_storage(self.database)
        shown = [meta.artifact_id for trial in study.trials for meta in get_all_artifact_meta(trial, storage=storage)]
        assert sorted(shown) == sorted(path.name for path in (self.folder / "artifacts").iterdir())
        return len(shown)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_a_cell_is_a_finished_trial_with_row_and_seed_as_parameters(table: Table) -> None:
    run_id = table.finish("whisq", 3)

    study = table.show()

    (trial,) = study.trials
    assert study.user_attrs["kind"] == "ablation"
    assert study.metric_names == [METRIC]
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.123456789)
    assert trial.params == {"row": "whisq", "seed": 3}
    assert trial.user_attrs == {"run_id": run_id, "state": "done", METRIC: 0.123457, "omq.utterance.mse": 0.5}
    assert trial.intermediate_values == {1: 0.5, 2: 0.1}
    assert table.files() == 3


def test_a_cell_without_a_value_is_a_failed_trial_with_its_reason(table: Table) -> None:
    table.finish("whisq", 0, {METRIC: float("nan"), "omq.utterance.mse": 0.5})
    table.fail("whisq", 1, "out of memory")
    table.point("whisq", 2, None, "no weights")
    table.point("whisq", 4, "not-run-yet")

    table.show()

    reasons = {key: trial.user_attrs["reason"] for key, trial in table.cells().items()}
    assert reasons == {
        ("whisq", 0): f"{METRIC} is undefined for constant predictions",
        ("whisq", 1): "out of memory",
        ("whisq", 2): "no weights",
    }
    assert {trial.state for trial in table.cells().values()} == {TrialState.FAIL}
    assert table.cells()["whisq", 0].user_attrs["omq.utterance.mse"] == 0.5


def test_only_missing_cells_are_added(table: Table) -> None:
    table.finish("whisq", 0)
    table.finish("whisq", 5)
    table.show()
    before = table.study().trials
    table.finish("no_ot", 3)

    table.show()
    table.show()

    after = table.study().trials
    assert after[:2] == before
    assert [trial.params for trial in after[2:]] == [{"row": "no_ot", "seed": 3}]
    assert table.files() == 9


def test_a_superseded_cell_is_marked_and_keeps_its_files_and_a_failed_one_may_succeed(table: Table) -> None:
    table.finish("whisq", 0)
    table.finish("whisq", 1)
    table.fail("no_ot", 0, "out of memory")
    table.show()
    table.finish("whisq", 0, {METRIC: 0.5}, run_id="edited")
    table.finish("no_ot", 0)

    table.show()

    assert {key: trial.value for key, trial in table.cells().items()} == {
        ("whisq", 0): 0.5,
        ("whisq", 1): 0.123456789,
        ("no_ot", 0): 0.123456789,
    }
    assert table.superseded() == {"whisq-0": "run edited is in its place"}
    assert table.files() == 12


def test_what_a_changed_row_had_is_marked_with_what_has_changed(table: Table) -> None:
    table.finish("whisq", 0)
    table.finish("no_ot", 0)
    table.show()
    table.file = read(table.folder, SMALL.replace("ot_weight: 0}", "ot_weight: 0.5}"))

    table.show()
    table.show()

    assert list(table.cells()) == [("whisq", 0)]
    assert table.superseded() == {"no_ot-0": "the row has changed: loss.ot_weight: 0.0 -> 0.5"}
    assert table.files() == 6


def test_a_row_that_was_changed_back_is_shown_again(table: Table) -> None:
    table.finish("no_ot", 0)
    table.show()
    table.file = read(table.folder, SMALL.replace("ot_weight: 0}", "ot_weight: 0.5}"))
    table.show()
    table.file = read(table.folder, SMALL)

    table.show()

    assert table.cells()["no_ot", 0].value == 0.123456789
    assert table.superseded() == {}
    assert table.files() == 3


def test_a_new_row_and_new_seeds_make_the_view_anew(table: Table) -> None:
    table.finish("whisq", 0)
    table.show()
    table.file = read(table.folder, f"{SMALL}      - {{id: mlp, label: MLP, set: {{model.attention: none}}}}\n")
    table.finish("mlp", 7)

    table.show()

    assert list(table.cells()) == [("whisq", 0), ("mlp", 7)]
    columns = [trial.distributions["row"] for trial in table.cells().values()]
    assert columns == [CategoricalDistribution(["whisq", "no_ot", "mlp"])] * 2
    assert table.files() == 6


def test_a_process_that_ended_over_a_cell_leaves_nothing_behind(table: Table) -> None:
    table.finish("whisq", 0)
    study = table.show()
    begun = study.trials[0]
    begun.state, begun.values, begun.datetime_complete = TrialState.RUNNING, None, None
    begun.params = {"row": "whisq", "seed": 0}
    study.add_trial(begun)

    table.show()

    assert table.cells()["whisq", 0].state == TrialState.COMPLETE


def test_a_study_of_the_same_name_made_by_an_older_version_is_replaced(table: Table) -> None:
    old = open_study(open_storage(table.database), "ablations", "ablation", METRIC)
    old.enqueue_trial({})
    table.finish("whisq", 0)

    table.show()

    assert list(table.cells()) == [("whisq", 0)]


def test_a_search_of_the_same_name_is_not_touched(table: Table) -> None:
    open_study(open_storage(table.database), "ablations", "search", METRIC)
    table.finish("whisq", 0)

    with pytest.raises(InputError, match=r"study 'ablations': there is one of another kind \(search, not ablation\)"):
        table.show()


def test_a_figure_that_is_drawn_no_more_goes_and_the_cells_stay(table: Table) -> None:
    table.finish("whisq", 0)
    table.show()
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    annotate(table.database, "ablations", "# two", {"curves": figure, "all_differences": figure})
    annotate(table.database, "ablations", "# one", {"curves": figure})

    with dashboard(table.folder, table.database.url) as address:
        (summary,) = get_json(f"{address}/api/studies")["study_summaries"]
        study = get_json(f"{address}/api/studies/{summary['study_id']}")
        importances = get_json(f"{address}/api/studies/{summary['study_id']}/param_importances")

    assert [each["id"] for each in study["plotly_graph_objects"]] == ["curves"]
    assert get_note(table.study()) == "# one"
    assert len(study["trials"]) == 1
    assert importances == {"param_importances": [[]]}
    assert table.files() == 3
