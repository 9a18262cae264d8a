"""The ablation file: the shipped Table II, what a valid file means, and what its warnings say."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from helpers.ablation_files import SMALL, read, with_row

import study.published
from study.config import (
    SHIPPED_FILE,
    default_file,
    parse_seeds,
    read_ablation_file,
    settings_yaml,
)
from study.config.checks import UNTRAINED_ENCODERS, seeds_needed
from study.config.json_schema import SCHEMA_FILE, schema_text
from whisq_core.checkpoints import ARCHITECTURES
from whisq_core.errors import InputError
from whisq_core.metrics import METRICS
from whisq_core.spec import RunSpec

ROOT = Path(__file__).parents[3]
TABLE_TWO = ROOT / "ablations.yaml"

# ---- the shipped Table II


def test_base_of_table_two_is_the_default_run() -> None:
    assert read_ablation_file(TABLE_TWO).base == RunSpec()


def test_table_two_has_the_sections_of_the_paper_and_every_row_in_its_order() -> None:
    file = read_ablation_file(TABLE_TWO)
    with Path(study.published.__file__).with_name("table2.csv").open(encoding="utf-8", newline="") as lines:
        paper = [line for line in csv.DictReader(lines) if line["source"] == "WhisQ paper, Table II"]
    sections = dict.fromkeys(line["section"] for line in paper)
    assert tuple(section.title for section in file.sections) == (*sections, "Exploratory", "Controls")
    quoted = [(row.section, row.label, row.quoted) for row in file.rows if row.quoted]
    assert quoted == [(line["section"], line["label"], line["id"]) for line in paper]
    assert [row.id for row in file.rows if not row.quoted] == [
        "pooled_query",
        "table1_literal",
        "constant",
        "system_lookup",
        "aa",
    ]


def test_rows_of_table_two_differ_from_base_in_exactly_what_they_ablate() -> None:
    file = read_ablation_file(TABLE_TWO)
    assert {row.id: file.difference_from_base(row) for row in file.rows} == {
        "whisq": [],
        "no_ot": ["loss.ot_weight: 4.057e-05 -> 0.0"],
        "official_baseline": [
            "backbone.audio: openai/whisper-base -> laion/larger_clap_music",
            "backbone.text: Qwen/Qwen3-0.6B -> laion/larger_clap_music",
            "model.attention: sequence -> none",
            "model.head: mlp -> linear",
            "loss.task: huber -> l1",
            "loss.ot_weight: 4.057e-05 -> 0.0",
            "train.learning_rate: 0.0007307 -> 0.0005",
            "train.momentum: 0.7435 -> 0.9",
            "train.batch_size: 128 -> 64",
            "train.patience: None -> 20",
        ],
        "vanilla": ["model.attention: sequence -> pooled"],
        "cross": ["model.attention: sequence -> cross"],
        "mlp_only": ["model.attention: sequence -> none", "loss.ot_weight: 4.057e-05 -> 0.0"],
        "w2v2_modernbert": [
            "backbone.audio: openai/whisper-base -> facebook/wav2vec2-base",
            "backbone.text: Qwen/Qwen3-0.6B -> answerdotai/ModernBERT-base",
        ],
        "pooled_query": ["model.attention: sequence -> pooled_query"],
        "table1_literal": ["model.feature_dim: 512 -> 1280"],
        "constant": ["model.predictor: whisq -> constant"],
        "system_lookup": ["model.predictor: whisq -> system_lookup"],
        "aa": [],
    }


def test_table_two_compares_six_rows_on_ten_seeds_and_can_decide() -> None:
    file = read_ablation_file(TABLE_TWO)
    assert file.name == "table2"
    assert file.seeds == tuple(range(10))
    assert file.compare is not None
    assert file.compare.to == "whisq"
    assert [row.id for row in file.rows if row.compared] == list(file.compare.rows)
    assert (len(file.compare.rows), file.metric, file.compare.equivalence_margin) == (6, "ta.utterance.srcc", 0.01)
    assert file.row("aa").seeds == tuple(range(100, 110))
    assert file.warnings == ()


def test_the_same_file_is_shipped_with_the_package() -> None:
    assert SHIPPED_FILE.resolve() == TABLE_TWO.resolve()


def test_the_committed_schema_is_that_of_the_settings() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run: python -m study.config.json_schema"


def test_the_schema_knows_every_setting_under_its_dotted_name() -> None:
    schema = json.loads(schema_text())
    known = set(schema["$defs"]["Settings"]["properties"])
    sections = {"data", "backbone", "model", "loss", "train"}
    assert known == sections | set(RunSpec().settings()) - {"seed"}
    described = schema["$defs"]["Settings"]["properties"]["train.momentum"]["description"]
    assert described == "momentum of sgd, beta 1 of adam and adamw"
    assert schema["$defs"]["Compare"]["properties"]["metric"]["$ref"] == "#/$defs/Metric"
    named, foreign = schema["$defs"]["Metric"]["anyOf"]
    assert set(METRICS) <= set(named["enum"])
    assert re.search(foreign["pattern"], "ta.system.my-parts.ccc")
    assert not re.search(foreign["pattern"], "ta.system.ccc")


# ---- what a valid file means


def test_cells_come_seed_major_so_that_a_whole_table_exists_after_the_first_seed(tmp_path: Path) -> None:
    file = read(tmp_path, with_row("{id: aa, label: A/A, seeds: [100]}").replace("0-9", "[3, 1]"))
    assert [(row.id, seed, row.at_seed(seed).seed) for row, seed in file.cells()] == [
        ("whisq", 3, 3),
        ("no_ot", 3, 3),
        ("aa", 100, 100),
        ("whisq", 1, 1),
        ("no_ot", 1, 1),
    ]


def test_a_row_inherits_the_settings_of_the_row_it_extends_wherever_that_stands(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        with_row("{id: child, label: C, extends: parent, set: {model.heads: 8}}")
        + "      - {id: parent, label: P, extends: no_ot, set: {model: {heads: 2, pool: max}}}\n",
    )
    assert file.row("child").settings == {"loss.ot_weight": 0, "model.heads": 8, "model.pool": "max"}
    assert file.row("child").spec.model.heads == 8
    assert file.row("child").extends == "parent"


@pytest.mark.parametrize(
    "override", ["loss.ot_weight: 1e-3\ntrain.batch_size: 64\n", "loss: {ot_weight: 1e-3}\ntrain:\n  batch_size: 64\n"]
)
def test_base_can_be_overridden_by_nested_or_dotted_settings(tmp_path: Path, override: str) -> None:
    best = tmp_path / "best.yaml"
    best.write_text(override)
    file = read(tmp_path, SMALL, base_override=best)
    assert (file.base.loss.ot_weight, file.base.train.batch_size) == (1e-3, 64)
    assert file.row("whisq").spec.loss.ot_weight == 1e-3
    assert file.row("no_ot").spec.loss.ot_weight == 0


def test_numbers_and_words_are_read_as_yaml_one_point_two(tmp_path: Path) -> None:
    file = read(tmp_path, f"base: {{loss.ot_weight: 1e-5, train.clip_scope: none}}\n{SMALL}".replace("no_ot", "no"))
    assert file.base.loss.ot_weight == 1e-5
    assert file.base.train.clip_scope == "none"
    assert file.row("no").settings == {"loss.ot_weight": 0}


def test_chosen_seeds_are_those_of_the_file_and_of_a_row_with_seeds_of_its_own_those_beside_them(
    tmp_path: Path,
) -> None:
    file = read(tmp_path, with_row("{id: aa, label: A/A, seeds: 100-109}"))

    assert [(row.id, seed) for row, seed in file.cells({7, 103})] == [
        ("aa", 103),
        *(("whisq", 7), ("no_ot", 7), ("aa", 107)),
    ]


def test_every_property_of_the_schema_has_a_description() -> None:
    def without(part: object, where: str) -> list[str]:
        found = []
        if isinstance(part, dict):
            for name, each in part.get("properties", {}).items():
                found += [] if each.get("description") else [f"{where}.{name}"]
            for name, each in part.items():
                found += without(each, f"{where}.{name}")
        return found

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert without(schema, "schema") == []


def test_a_file_has_the_name_of_its_path_unless_it_gives_one(tmp_path: Path) -> None:
    assert read(tmp_path, SMALL).name == "ablations"
    assert read(tmp_path, f"name: mine\n{SMALL}").name == "mine"


def test_written_settings_are_read_back_as_the_same_run(tmp_path: Path) -> None:
    spec = read_ablation_file(TABLE_TWO).row("official_baseline").spec
    best = tmp_path / "best.yaml"
    best.write_text(settings_yaml(spec.settings()))
    assert read(tmp_path, SMALL, base_override=best).base == spec
    assert yaml.safe_load(best.read_text())["train"]["learning_rate"] == 5e-4


def test_the_file_beside_the_user_goes_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_file(None) == SHIPPED_FILE
    (tmp_path / "ablations.yaml").touch()
    assert default_file(None) == Path("ablations.yaml")
    assert default_file(Path("other.yaml")) == Path("other.yaml")


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-3", (0, 1, 2, 3)), ("0,1,5", (0, 1, 5)), ("4", (4,)), ("7, 0-1", (7, 0, 1))]
)
def test_seeds_are_written_as_ranges_and_lists(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, "--seeds") == seeds


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("0-", "--seeds 0-: seeds are whole numbers from 0 and ranges such as 0-9, found '0-'."),
        ("5-2", "--seeds 5-2: the range 5-2 runs backwards."),
        ("0,0-1", "--seeds 0,0-1: seed 0 is duplicated; each run needs its own."),
        ("0-99999999", "--seeds 0-99999999: the range 0-99999999 has more than 1000 seeds."),
        ("", "--seeds : seeds are whole numbers from 0 and ranges such as 0-9, found ''."),
    ],
)
def test_wrong_seeds_are_named(text: str, mistake: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_seeds(text, "--seeds")
    assert caught.value.mistakes == (mistake,)


# ---- warnings


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 6), (3, 7), (6, 8), (7, 9)])
def test_seeds_that_a_number_of_comparisons_needs(comparisons: int, seeds: int) -> None:
    assert seeds_needed(comparisons) == seeds


def test_a_design_that_cannot_decide_is_flagged_when_it_is_read(tmp_path: Path) -> None:
    file = read(tmp_path, f"{SMALL.replace('0-9', '0-4')}compare: {{to: whisq, rows: [no_ot]}}\n")
    assert file.warnings == (
        f"{tmp_path}/ablations.yaml:7: no verdict 'better' or 'worse' is possible: the smallest p of 5 seeds, "
        "2/2^5 = 0.0625, is above .05/1 = 0.05. 1 comparison needs at least 6 seeds.",
    )


def test_rows_that_are_the_same_runs_are_flagged(tmp_path: Path) -> None:
    file = read(tmp_path, with_row("{id: again, label: A, seeds: [9, 10], set: {loss.ot_weight: 4.057e-5}}"))
    assert file.warnings == (
        f"{tmp_path}/ablations.yaml: rows 'whisq' and 'again' have the same settings and share 1 seed: "
        "these are the same runs and cannot differ.",
    )


def test_untrained_encoders_that_a_file_may_name_are_those_that_exist() -> None:
    named = {name.removeprefix("untrained:") for names in UNTRAINED_ENCODERS.values() for name in names}
    assert named == set(ARCHITECTURES)
