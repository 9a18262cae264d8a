"""Every mistake in an ablation file is named at once, with its line, its row and the way out."""

from pathlib import Path

import pytest
from helpers.ablation_files import SMALL, mistakes, read, with_row

from study.config import read_ablation_file
from whisq_core.errors import InputError, shown


def test_every_mistake_in_keys_and_types_is_reported_at_once_with_line_and_row(tmp_path: Path) -> None:
    text = """\
nmae: table2
seeds: [0, 0]
compare: {to: whisq, rows: [], equivalence_margin: 0}
sections:
  - title: A
    rows:
      - {id: whisq, label: WhisQ, set: {loss.ot_wieght: 0}}
      - {id: whisq, lable: Again, set: [1]}
  - {title: B, stand_in: 3, rows: [4]}
"""
    assert mistakes(tmp_path, text) == [
        "ablations.yaml:1: unknown key 'nmae'. Did you mean 'name'?",
        "ablations.yaml:2: seeds: seed 0 is duplicated; each run needs its own.",
        "ablations.yaml:3, compare: rows: must not be empty, found [].",
        "ablations.yaml:3, compare: equivalence_margin: Input should be greater than 0, found 0.",
        "ablations.yaml:8, row 'whisq': set: a mapping (key: value) is needed, found [1].",
        "ablations.yaml:8, row 'whisq': key 'label' is missing. Add it.",
        "ablations.yaml:8, row 'whisq': unknown key 'lable'. Did you mean 'label'?",
        "ablations.yaml:9, section 2: stand_in: Input should be a valid boolean, found 3.",
        "ablations.yaml:9, row 1 of section 2: rows: a mapping (key: value) is needed, found 4.",
    ]


def test_every_mistake_in_meaning_is_reported_at_once_with_line_and_row(tmp_path: Path) -> None:
    text = """\
name: table2
base:
  loss: {ot_wieght: 1}
  train: {batch_size: true}
  seed: 3
seeds: 0-1
hyperparameters: tuned
compare: {to: whisk, rows: [no_ot, no_ot, whisq, gone], metric: ta.srcc}
sections:
  - title: A
    rows:
      - {id: whisq, label: WhisQ, quoted: whisk}
      - id: no_ot
        label: Without
        set: {loss.ot_wieght: 0, train.epochs: many, data.score: [test]}
        extends: no_ot
  - title: B
    rows:
      - {id: whisq, label: Again}
      - {id: loop, label: L, extends: pool}
      - {id: pool, label: P, extends: loop, set: {model.head: none}}
      - {id: orphan, label: O, extends: whisqq}
"""
    assert mistakes(tmp_path, text) == [
        "ablations.yaml:3, base: unknown setting 'loss.ot_wieght'. Did you mean 'loss.ot_weight'?",
        "ablations.yaml:4, base: setting 'train.batch_size': Input should be a valid integer, found True.",
        "ablations.yaml:5, base: seeds are not a setting of base. List them under 'seeds'.",
        "ablations.yaml:7: tuned rows need a search. Add 'search: {objective: ta.utterance.srcc}'.",
        "ablations.yaml:8, compare: unknown row 'whisk'. Did you mean 'whisq'?",
        "ablations.yaml:8, compare: unknown metric 'ta.srcc'. Did you mean 'ta.system.srcc'?",
        "ablations.yaml:8, compare: row 'no_ot' is duplicated. Remove one.",
        "ablations.yaml:8, compare: unknown row 'gone'. Allowed: loop, no_ot, orphan, pool, whisq.",
        "ablations.yaml:12, row 'whisq': unknown published row 'whisk'. Did you mean 'whisq'?",
        "ablations.yaml:15, row 'no_ot': unknown setting 'loss.ot_wieght'. Did you mean 'loss.ot_weight'?",
        "ablations.yaml:15, row 'no_ot': setting 'train.epochs': Input should be a valid integer, found 'many'.",
        "ablations.yaml:15, row 'no_ot': setting 'data.score' belongs to the whole table: its rows share their clips. "
        "Set it in base.",
        "ablations.yaml:16, row 'no_ot': a row cannot extend itself. Name another row, or remove it.",
        "ablations.yaml:19, row 'whisq': this id is duplicated, first in line 12. Rename one.",
        "ablations.yaml:20, row 'loop': extends runs in a circle: loop -> pool -> loop. "
        "Let one of them start from base.",
        "ablations.yaml:21, row 'pool': setting 'model.head': Input should be 'mlp' or 'linear', found 'none'.",
        "ablations.yaml:22, row 'orphan': unknown row 'whisqq'. Did you mean 'whisq'?",
    ]


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        (
            "{model.predictor: constant, loss.blur: 1.0}",
            "setting 'loss.blur' changes nothing here: this predictor uses neither audio nor text and is "
            "not trained. Remove it.",
        ),
        (
            "{loss.ot_weight: 0, loss.blur: 1.0}",
            "setting 'loss.blur' changes nothing here: loss.ot_weight is 0. Remove it.",
        ),
        (
            "{loss.task: l1, loss.huber_delta: 2.0}",
            "setting 'loss.huber_delta' changes nothing here: loss.task is l1. Remove it.",
        ),
        (
            "{model.attention: none, model.heads: 8}",
            "setting 'model.heads' changes nothing here: model.attention is none. Remove it.",
        ),
        (
            "{model.attention: pooled, model.heads: 8}",
            "setting 'model.heads' changes nothing here: model.attention is pooled. Remove it.",
        ),
        (
            "{train.optimizer: adam, train.nesterov: false}",
            "setting 'train.nesterov' changes nothing here: train.optimizer is adam. Remove it.",
        ),
        (
            "{train.clip_scope: none, train.clip_norm: 2.0}",
            "setting 'train.clip_norm' changes nothing here: train.clip_scope is none. Remove it.",
        ),
        ("{seed: 4}", "seeds are not a setting of a row. List them under 'seeds'."),
        (
            "{backbone.audio: 'untrained:wisper'}",
            "setting 'backbone.audio': unknown encoder 'untrained:wisper'. Did you mean 'untrained:whisper'?",
        ),
        (
            "{model.attention: none, model.layer_norm: true}",
            "model.layer_norm needs an attention: it normalises the attended sequences.",
        ),
        ("{loss: 3}", "'loss' is a section, found 3. Write 'loss: {NAME: VALUE}'."),
        ("{loss: {p: 1}, loss.p: 1}", "setting 'loss.p' is duplicated. Remove one."),
        ("{loss.ot_weight: .nan}", "setting 'loss.ot_weight': Input should be a finite number, found nan."),
        (
            "{train.patience: none}",
            "setting 'train.patience': Input should be a valid integer, or null for none, found 'none'.",
        ),
    ],
)
def test_settings_that_a_row_cannot_have_are_refused(tmp_path: Path, settings: str, mistake: str) -> None:
    text = with_row(f"{{id: odd, label: Odd, set: {settings}}}")
    assert mistakes(tmp_path, text) == [f"ablations.yaml:7, row 'odd': {mistake}"]


def test_a_mistake_of_a_parent_is_reported_once(tmp_path: Path) -> None:
    text = with_row("{id: parent, label: P, set: {loss.ot_wieght: 1, model.heads: 3}}")
    text += "      - {id: child, label: C, extends: parent, set: {model.pool: max}}\n"
    assert mistakes(tmp_path, text) == [
        "ablations.yaml:7, row 'parent': unknown setting 'loss.ot_wieght'. Did you mean 'loss.ot_weight'?",
        "ablations.yaml:7, row 'parent': setting 'model': heads (3) must divide feature_dim (512).",
    ]


@pytest.mark.parametrize(
    ("row", "compare", "mistake"),
    [
        (
            "{id: aa, label: A/A, seeds: 100-109}",
            "{to: whisq, rows: [aa]}",
            "row 'aa' has other seeds than 'whisq', but pairs share a seed. Remove its seeds.",
        ),
        (
            "{id: more, label: M}",
            "{to: whisq, rows: [stand_in]}",
            "row 'stand_in' stands in a stand_in section, outside every comparison. Remove it.",
        ),
        (
            "{id: more, label: M}",
            "{to: stand_in, rows: [no_ot]}",
            "row 'no_ot' is compared to 'stand_in' of a stand_in section, outside every comparison. Remove it.",
        ),
        ("{id: more, label: M}", "{to: whisq, rows: [whisq]}", "row 'whisq' is compared to itself. Remove it."),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(tmp_path: Path, row: str, compare: str, mistake: str) -> None:
    text = with_row(row) + f"  - {{title: S, stand_in: true, rows: [{{id: stand_in, label: S}}]}}\ncompare: {compare}\n"
    assert mistakes(tmp_path, text) == [f"ablations.yaml:9, compare: {mistake}"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "ablations.yaml: the file is empty. It needs at least one key; see the README."),
        ("# nothing\n", "ablations.yaml: the file is empty. It needs at least one key; see the README."),
        ("a: [1\nb: 2\n", "ablations.yaml:2: not YAML: expected ',' or ']', but got ':' (column 2)."),
        ("a: 1\n---\nb: 2\n", "ablations.yaml:2: not YAML: but found another document (column 1)."),
        ("- 1\n", "ablations.yaml:1: the file: a mapping (key: value) is needed, found [1]."),
        (SMALL + "seeds: 3\n", "ablations.yaml:7: key 'seeds' is duplicated, first in line 1. Remove one."),
        (SMALL + "3: x\n", "ablations.yaml:7: a key must be a word, found '3'. Quote it."),
        (SMALL + "? [a]\n: 3\n", "ablations.yaml:7: a key must be a word, found a list or mapping. Quote it."),
        (SMALL + "<<: 3\n", "ablations.yaml:7: merges ('<<') are not read. Let a row `extends` another one."),
        (
            SMALL + "name: !!python/name:os.system x\n",
            "ablations.yaml:7: tag 'tag:yaml.org,2002:python/name:os.system' is not read here. "
            "Write the value without a tag.",
        ),
        (SMALL + "name: !!int x\n", "ablations.yaml:7: 'x' cannot be read as int. Correct the value."),
        (SMALL + "base: &b\n  loss: *b\n", "ablations.yaml:7: this alias contains itself. Write the value out."),
        (
            SMALL.replace("whisq", "a b"),
            "ablations.yaml:5, row 'a b': id: only letters, digits, '_' and '-' are allowed, starting with a letter or "
            "digit, found 'a b'.",
        ),
    ],
)
def test_what_is_not_a_file_of_rows_is_refused_with_its_line(tmp_path: Path, text: str, mistake: str | None) -> None:
    found = mistakes(tmp_path, text)
    assert len(found) == 1
    assert mistake is None or found == [mistake]


def test_bytes_that_are_not_utf8_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "ablations.yaml"
    path.write_bytes(b"name: ok\n# caf\xe9\n")
    with pytest.raises(InputError) as caught:
        read_ablation_file(path)
    assert caught.value.mistakes == (f"{path}:2: byte 0xe9 is not UTF-8. Save the file as UTF-8.",)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "gone.yaml", "No such file or directory"),
        (tmp_path, "it is a folder, allowed: a file"),
    ]:
        with pytest.raises(InputError) as caught:
            read_ablation_file(path)
        assert caught.value.mistakes == (f"{path}: cannot be read: {reason}. Check the path.",)


def test_mistakes_of_a_base_file_are_reported_beside_those_of_the_ablation_file(tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    best.write_text("loss:\n  ot_wieght: 1\ntrain.momentum: 2.0\n")
    assert mistakes(tmp_path, SMALL.replace("loss.ot_weight", "loss.ot"), base_override=best) == [
        "best.yaml:2: unknown setting 'loss.ot_wieght'. Did you mean 'loss.ot_weight'?",
        "best.yaml:3: setting 'train.momentum': Input should be less than 1, found 2.0.",
        "ablations.yaml:6, row 'no_ot': unknown setting 'loss.ot'. Did you mean 'loss.p'?",
    ]
    best.write_text("loss: {p: 1}\nloss: {p: 2}\n")
    assert mistakes(tmp_path, f"nam: x\n{SMALL}", base_override=best) == [
        "best.yaml:2: key 'loss' is duplicated, first in line 1. Remove one.",
        "ablations.yaml:1: unknown key 'nam'. Did you mean 'name'?",
    ]
    best.write_text("[1]\n")
    assert mistakes(tmp_path, SMALL, base_override=best) == [
        "best.yaml:1: settings are needed, such as 'loss.ot_weight: 0.001'."
    ]


def test_mistakes_in_the_search_stand_with_their_line(tmp_path: Path) -> None:
    text = SMALL + (
        "search:\n  sampler: tpee\n  space:\n    train.learning_rte: {low: 1e-5, high: 0.1}\n"
        "    train.momentum:\n      low: 0.5\n      hihg: 1\n"
    )
    assert mistakes(tmp_path, text) == [
        "ablations.yaml:8, search: sampler: Input should be 'tpe', 'random' or 'gp', found 'tpee'.",
        "ablations.yaml:13, search: unknown key 'hihg'. Did you mean 'high'?",
    ]
    text = text.replace("tpee", "tpe").replace("hihg", "high")
    assert mistakes(tmp_path, text) == [
        "ablations.yaml:10, search: unknown setting 'train.learning_rte'. Did you mean 'train.learning_rate'?",
        "ablations.yaml:11, search: setting 'train.momentum': Input should be less than 1, found 1.",
    ]


def test_a_list_that_is_too_short_is_refused_where_its_items_are_right(tmp_path: Path) -> None:
    text = SMALL + "search: {space: {loss.p: {choices: [2]}}}\n"
    assert mistakes(tmp_path, text) == ["ablations.yaml:7, search: choices: at least 2 are needed, found [2]."]


def test_an_anchor_may_be_used_twice(tmp_path: Path) -> None:
    assert read(tmp_path, SMALL.replace("0-9", "&a 0-9").replace("title: Rows", "title: &a Rows")).seeds[-1] == 9


def test_an_unknown_row_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown row 'whisk'. Did you mean 'whisq'\?"):
        read(tmp_path, SMALL).row("whisk")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("seeds: 0-999999999\n", "1: seeds: the range 0-999999999 has more than 1000 seeds."),
        ("seeds: 4294967296\n", "1: seeds: seeds are at most 2147483647, found 4294967296."),
        ("seeds: [0-999, 1000]\n", "1: seeds: more than 1000 seeds: each is a training run of every row."),
        (f"seeds: {'9' * 5000}\n", f"1: {shown('9' * 5000)} cannot be read as int. Correct the value."),
        (f"seeds: {'[' * 3000}\n", " the file is nested too deeply. Write it flatter."),
    ],
)
def test_absurd_input_is_refused_with_a_clear_line(tmp_path: Path, text: str, mistake: str) -> None:
    found = mistakes(tmp_path, SMALL.replace("seeds: 0-9\n", text))
    assert found[0] == f"ablations.yaml:{mistake}"


def test_aliases_that_expand_to_absurd_sizes_are_refused(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else '1'}]\n" for i in range(9)]
    text = "more than 100,000 values, with every alias written out. Shorten the file."
    assert mistakes(tmp_path, "".join(levels)) == [f"ablations.yaml: {text}"]


def test_a_long_chain_of_rows_that_extend_each_other_is_read(tmp_path: Path) -> None:
    rows = [f"      - {{id: r{n}, label: R, extends: r{n + 1}}}\n" for n in range(1001)]
    file = read(tmp_path, SMALL + "".join(rows) + "      - {id: r1001, label: R, set: {model.heads: 8}}\n")
    assert file.row("r0").spec.model.heads == 8
