"""Reading the official folder and the manifest: what is understood, and every mistake with its line."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.corpora import write_evaluation_corpus, write_official_corpus

from whisq_core.corpus import (
    check_audio_files,
    read_corpus,
)
from whisq_core.errors import InputError

NAME = "audiomos2025-track1-{}"
MANIFEST_HEADER = "utterance,system,prompt,audio,omq,ta,split"


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def mistakes_of(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    return [line.replace(f"{path}{os.sep}", "") for line in caught.value.mistakes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_official_corpus(tmp_path / "MusicEval-phase1")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A training-phase folder of text files only: one ordinary system and one demo system with the same P-id."""
    root = tmp_path / "tiny"
    (root / "sets").mkdir(parents=True)
    train, dev = [NAME.format(name) for name in ("S002_P001.wav,2.4,2.6", "S001_P001.wav,4.0,1.0")]
    (root / "sets/train_mos_list.txt").write_text(f"{train}\n")
    (root / "sets/dev_mos_list.txt").write_text(f"{dev}\n")
    (root / "prompt_info.txt").write_text("id\ttext\nP001\ta piano, alone\n")
    (root / "demo_prompt_info.txt").write_text(f"id\ttext\n{NAME.format('S001_P001.wav')}\ta march\n")
    return root


def test_an_official_folder_becomes_one_table_in_listed_order(folder: Path) -> None:
    corpus = read_corpus(folder)
    assert corpus.name == "MusicEval-phase1"
    assert list(corpus.clips.columns) == ["utterance", "system", "prompt", "audio", "omq", "ta", "split"]
    assert list(corpus.clips["split"]) == ["train"] * 12 + ["dev"] * 8
    listed = (folder / "sets/train_mos_list.txt").read_text().splitlines()
    ours = [f"{c.utterance}.wav,{c.omq},{c.ta}" for c in corpus.clips.itertuples() if c.split == "train"]
    assert ours == listed
    assert all(Path(audio).is_file() and Path(audio).is_absolute() for audio in corpus.clips["audio"])
    assert corpus.system_mos is not None
    assert corpus.system_mos.loc["S002"].tolist() == [4.4, 2.52]
    assert not corpus.simulated


def test_the_prompt_of_a_demo_clip_is_found_under_its_full_name_and_not_under_the_colliding_id(tiny: Path) -> None:
    clips = read_corpus(tiny).clips.set_index("system")
    assert clips.loc["S002", "prompt"] == "a piano, alone"
    assert clips.loc["S001", "prompt"] == "a march"


def test_any_clip_named_in_the_demo_file_has_its_text_and_any_other_that_of_its_id(tiny: Path) -> None:
    edit(tiny / "demo_prompt_info.txt", ("S001_P001", "S002_P001"))
    clips = read_corpus(tiny).clips.set_index("system")
    assert clips.loc["S002", "prompt"] == "a march"
    assert clips.loc["S001", "prompt"] == "a piano, alone"


def test_a_clip_without_prompt_is_named_with_its_line(tiny: Path) -> None:
    edit(tiny / "prompt_info.txt", ("P001", "P002"))
    assert mistakes_of(tiny) == [
        f"sets/train_mos_list.txt:1: clip '{NAME.format('S002_P001')}' has no prompt: neither "
        f"'{NAME.format('S002_P001.wav')}' in demo_prompt_info.txt nor 'P001' in prompt_info.txt. "
        "Add it to one of them."
    ]


def test_a_demo_system_without_demo_file_never_takes_the_colliding_prompt(tiny: Path) -> None:
    (tiny / "demo_prompt_info.txt").unlink()
    assert mistakes_of(tiny) == [
        f"sets/dev_mos_list.txt:1: no demo_prompt_info.txt, which holds the prompt of '{NAME.format('S001_P001')}': "
        "S001 is a demo system, its P-ids mean other prompts than those of prompt_info.txt."
    ]


def test_windows_line_ends_a_byte_order_mark_spaces_and_blank_lines_change_nothing(tiny: Path) -> None:
    before = read_corpus(tiny).clips
    for path in tiny.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").replace(b",2.", b", 2.") + b"\r\n")
    pd.testing.assert_frame_equal(read_corpus(tiny).clips, before)


def test_the_parent_of_one_corpus_is_as_good_as_the_corpus(folder: Path) -> None:
    pd.testing.assert_frame_equal(read_corpus(folder.parent).clips, read_corpus(folder).clips)
    other = write_official_corpus(folder.parent / "other", num_train=4, num_dev=4)
    assert mistakes_of(folder.parent) == [
        f"{folder.parent}: found 2 corpora (MusicEval-phase1, other). Give one of them."
    ]
    assert other.name == read_corpus(other).name


def test_the_evaluation_phase_has_clips_without_labels(tmp_path: Path) -> None:
    folder = write_evaluation_corpus(tmp_path / "phase2")
    corpus = read_corpus(folder)
    assert corpus.name == "phase2"
    assert set(corpus.clips["split"]) == {"eval"}
    assert corpus.clips[["omq", "ta"]].isna().to_numpy().all()
    assert corpus.clips["utterance"].iloc[0] == NAME.format("S001_P001")
    assert corpus.clips["prompt"].iloc[0].startswith("A high reed tone, demo take S001")
    check_audio_files(corpus, tmp_path / "audio.json")
    pd.testing.assert_frame_equal(read_corpus(folder / "DATA").clips, corpus.clips)


def test_the_full_release_has_a_test_split_and_its_evaluation_list_names_the_same_clips(tmp_path: Path) -> None:
    folder = write_official_corpus(tmp_path / "full", num_train=8, num_dev=4, num_test=4)
    names = [
        line.split(",")[0].removesuffix(".wav") for line in (folder / "sets/test_mos_list.txt").read_text().splitlines()
    ]
    (folder / "sets/eval_list.txt").write_text("\n".join(names))
    assert list(read_corpus(folder).clips["split"].unique()) == ["train", "dev", "test"]


def test_a_simulated_corpus_says_so(tiny: Path) -> None:
    (tiny / "SIMULATED.txt").write_text("simulated raters\n")
    assert read_corpus(tiny).simulated


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("S002_P001.wav,2.4", "found 2 fields in '{}', allowed: 3 (name.wav,OMQ,TA)."),
        ("S002_P001.wav,2.4,2.6,x", "found 4 fields in '{}', allowed: 3 (name.wav,OMQ,TA)."),
        ("S002_P001.wav,two,2.6", "found OMQ 'two', allowed: a number from 1 to 5."),
        ("S002_P001.wav,2.4,nan", "found TA 'nan', allowed: a number from 1 to 5."),
        ("S002_P001.wav,inf,2.6", "found OMQ 'inf', allowed: a number from 1 to 5."),
        ("S002_P001.wav,2.4,5.2", "found TA '5.2', allowed: a number from 1 to 5."),
        ("S002_P001.wav,0.8,2.6", "found OMQ '0.8', allowed: a number from 1 to 5."),
        ("S002_P001.wav,,2.6", "found OMQ '', allowed: a number from 1 to 5."),
        ("S2-P1.wav,2.4,2.6", "found the name '{0}', allowed: audiomos2025-track1-S<number>_P<number>.wav."),
    ],
)
def test_a_broken_list_line_is_named_with_what_is_allowed(tiny: Path, line: str, mistake: str) -> None:
    text = NAME.format(line)
    (tiny / "sets/train_mos_list.txt").write_text(f"{NAME.format('S002_P001.wav,3,3')}\n")
    with (tiny / "sets/dev_mos_list.txt").open("a") as file:
        file.write(text.replace("S002_P001", "S003_P001") + "\n")
    shown = text.replace("S002_P001", "S003_P001")
    found = shown.split(",")[0] if "{0}" in mistake else shown
    assert mistakes_of(tiny) == [f"sets/dev_mos_list.txt:2: {mistake.format(found)}"]


def test_a_duplicate_utterance_is_named_with_both_lines(tiny: Path) -> None:
    with (tiny / "sets/dev_mos_list.txt").open("a") as file:
        file.write(NAME.format("S002_P001.wav,3,3\n"))
    duplicate = f"duplicate utterance '{NAME.format('S002_P001')}'"
    expected = f"sets/dev_mos_list.txt:2: {duplicate}, already at sets/train_mos_list.txt:1. List each clip once."
    assert mistakes_of(tiny) == [expected]


def test_all_mistakes_of_all_files_are_reported_at_once(tiny: Path) -> None:
    edit(tiny / "sets/train_mos_list.txt", ("2.4,2.6", "9,nan"))
    (tiny / "sets/dev_mos_list.txt").write_bytes(b"")
    (tiny / "prompt_info.txt").write_bytes(b"P001\tcaf\xe9\nP002\n")
    (tiny / "system_mos").mkdir()
    (tiny / "system_mos/system_mos_phase1.csv").write_text("S002,3,3\nS002,3,3\nS003,3\nS004,6,3\n")
    assert mistakes_of(tiny) == [
        "prompt_info.txt:1: byte 0xe9 is not UTF-8, allowed: UTF-8. Save the file as UTF-8.",
        "prompt_info.txt:1: found 'P001\tcaf�', allowed: the header 'id<TAB>text'.",
        "prompt_info.txt:2: found 'P002', allowed: id<TAB>text, neither of them empty.",
        "sets/train_mos_list.txt:1: found OMQ '9', allowed: a number from 1 to 5.",
        "sets/train_mos_list.txt:1: found TA 'nan', allowed: a number from 1 to 5.",
        "sets/dev_mos_list.txt:1: found no clip, allowed: at least one.",
        "system_mos/system_mos_phase1.csv:2: duplicate system 'S002', allowed: each system once.",
        "system_mos/system_mos_phase1.csv:3: found 2 fields in 'S003,3', allowed: 3 (system,OMQ,TA).",
        "system_mos/system_mos_phase1.csv:4: found OMQ '6', allowed: a number from 1 to 5.",
    ]


def test_a_text_that_is_not_utf8_is_one_mistake_for_each_line_and_none_for_its_clips(tiny: Path) -> None:
    (tiny / "prompt_info.txt").write_bytes("id\ttext\nP001\tcafé\n".encode("latin-1"))
    (tiny / "demo_prompt_info.txt").write_bytes("id\ttext\n".encode("utf-16"))
    assert mistakes_of(tiny) == [
        "prompt_info.txt:2: byte 0xe9 is not UTF-8, allowed: UTF-8. Save the file as UTF-8.",
        "demo_prompt_info.txt:1: found UTF-16 text, allowed: UTF-8. Save the file as UTF-8.",
        f"sets/dev_mos_list.txt:1: no demo_prompt_info.txt, which holds the prompt of '{NAME.format('S001_P001')}': "
        "S001 is a demo system, its P-ids mean other prompts than those of prompt_info.txt.",
    ]


def test_two_texts_for_one_prompt_are_a_mistake_and_the_same_text_twice_is_not(tiny: Path) -> None:
    (tiny / "prompt_info.txt").write_text("id\ttext\nP001\ta piano\nP001\ta piano\n")
    read_corpus(tiny)
    (tiny / "prompt_info.txt").write_text("id\ttext\nP001\ta piano\nP001\ta flute\n")
    assert mistakes_of(tiny) == ["prompt_info.txt:3: a second, different text for 'P001'. Give each id one text."]


def test_a_missing_folder_or_list_is_named_with_the_expected_layout(tiny: Path, tmp_path: Path) -> None:
    layout = (
        "a training-phase folder holds sets/train_mos_list.txt and sets/dev_mos_list.txt, "
        "an evaluation-phase folder DATA/sets/eval_list.txt"
    )
    absent = tmp_path / "absent"
    assert mistakes_of(absent) == [
        f"{absent}: no such folder; give the MusicEval folder (its sets/ and wav/) or a .csv manifest."
    ]
    absent.mkdir()
    assert mistakes_of(absent) == [f"{absent}: found no folder sets/ in it, in DATA/ or in a subfolder; {layout}."]
    (tiny / "sets/dev_mos_list.txt").unlink()
    (tiny / "prompt_info.txt").unlink()
    assert mistakes_of(tiny) == [
        "prompt_info.txt: no such file.",
        f"sets/dev_mos_list.txt: no such list; {layout}.",
    ]


def test_several_system_tables_are_a_mistake_and_none_is_not(tiny: Path) -> None:
    assert read_corpus(tiny).system_mos is None
    (tiny / "system_mos").mkdir()
    for name in ("a.csv", "b.csv"):
        (tiny / "system_mos" / name).write_text("S002,3,3\n")
    assert mistakes_of(tiny) == ["system_mos: found 2 csv files (a.csv, b.csv), allowed: one. Remove the others."]


def test_a_manifest_gives_the_same_table(folder: Path) -> None:
    clips = read_corpus(folder).clips
    relative = clips.assign(audio=[os.path.relpath(audio, folder) for audio in clips["audio"]], rater="x")
    relative.to_csv(folder / "clips.csv", index=False)
    corpus = read_corpus(folder / "clips.csv")
    assert corpus.name == "clips"
    pd.testing.assert_frame_equal(corpus.clips, clips)


def test_a_manifest_may_quote_prompts_and_leave_out_labels_of_eval_clips_only(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text(f'{MANIFEST_HEADER}\r\na.wav,A,"one, ""two""\nthree",x/a.wav,,,eval\r\nb,A,p,/b.wav,1,5,train\r\n')
    clips = read_corpus(path).clips
    assert clips["prompt"].tolist() == ['one, "two"\nthree', "p"]
    assert clips["audio"].tolist() == [str(tmp_path / "x/a.wav"), "/b.wav"]
    assert clips["utterance"].tolist() == ["a", "b"]
    assert np.isnan(clips["omq"][0])


def test_all_mistakes_of_a_manifest_are_reported_with_the_line_where_the_record_begins(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text(
        f'{MANIFEST_HEADER}\na,A,"two\nlines",a.wav,1,5,train\na,A,p,a.wav,1,5,train\nb,A,p,b.wav,1,5\n'
        "c,,,c.wav,,6,holdout\nd,A,p,d.wav,,,dev\n"
    )
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    assert [line.removeprefix(f"{path}:") for line in caught.value.mistakes] == [
        f"4: duplicate utterance 'a', already at {path}:2. List each clip once.",
        "5: found 6 fields, allowed: 7, as the header. Quote commas.",
        "6: found no system, allowed: a text that is not empty.",
        "6: found no prompt, allowed: a text that is not empty.",
        "6: found split 'holdout', allowed: train, dev, test, eval.",
        "6: found OMQ '', allowed: a number from 1 to 5.",
        "6: found TA '6', allowed: a number from 1 to 5.",
        "7: found OMQ '', allowed: a number from 1 to 5.",
        "7: found TA '', allowed: a number from 1 to 5.",
    ]


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", f"1: found no header, allowed: {MANIFEST_HEADER}, each once. Missing or doubled: "
              f"{MANIFEST_HEADER.replace(',', ', ')}."),
        (b"utterance,system,prompt,audio,omq,split\n",
              "1: found the header 'utterance,system,prompt,audio,omq,split', "
              f"allowed: {MANIFEST_HEADER}, each once. Missing or doubled: ta."),
        (MANIFEST_HEADER.encode(), "1: found no clip below the header, allowed: at least one."),
        (MANIFEST_HEADER.encode() + b'\na,A,"p', "2: broken CSV (unexpected end of data), allowed: quotes that are "
              "closed and doubled inside."),
        (MANIFEST_HEADER.encode() + b"\na,A,\xff,a.wav,1,1,dev", "2: byte 0xff is not UTF-8, allowed: UTF-8. Save the "
              "file as UTF-8."),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_understood_is_one_mistake(tmp_path: Path, content: bytes, mistake: str) -> None:
    path = tmp_path / "clips.csv"
    path.write_bytes(content)
    assert mistakes_of(path) == [f"{path}:{mistake}"]


def test_a_missing_manifest_is_one_mistake(tmp_path: Path) -> None:
    assert mistakes_of(tmp_path / "no.csv") == [f"{tmp_path / 'no.csv'}: no such file."]
