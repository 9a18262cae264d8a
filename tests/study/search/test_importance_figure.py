from study.search import importance_figure
from study.search.importance import Importance, Importances

FOUND = Importances(
    (Importance("train.learning_rate", 0.7, 0.05, 1.0), Importance("train.momentum", 0.02, 0.02, 0.4)),
    0.02,
    0.01,
    40,
    "table2-whisq",
)


def test_a_setting_that_noise_explains_as_well_is_grey() -> None:
    bars = importance_figure(FOUND).data[0]
    assert list(bars.y) == ["train.momentum", "train.learning_rate"]
    assert bars.marker.color[0] != bars.marker.color[1]


def test_the_figure_of_simulated_data_says_so() -> None:
    assert "— simulated data †" in importance_figure(FOUND, " — simulated data †").layout.title.text
