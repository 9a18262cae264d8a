"""Models that several test files predict with."""

import pytest
from helpers.command import run
from helpers.studies import Place, changed, copied_to


@pytest.fixture(scope="session")
def saved(finished_study: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The finished study with the models of a row, saved after its cells were done, and of a row that is its twin."""
    place = copied_to(tmp_path_factory.mktemp("saved"), finished_study)
    twin = {"id": "twin", "label": "The same settings"}
    changed(place, lambda content: content["sections"][-1]["rows"].append(twin))
    finished = run(place.folder, *place.ablate, "--save-models", "--rows", "whisq,twin,constant")
    assert finished.status == 0, finished.err
    assert finished.err.count("done: ") == 2, "each run is trained once more, under both names"
    return place
