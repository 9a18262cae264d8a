"""The report: one file, nothing from outside, the numbers of the CSV."""

import csv
import json
import re
from dataclasses import replace
from typing import get_args

import pytest
from helpers.results import synthetic_results, untrained, with_cell

from study.judgement.verdicts import Verdict
from study.report import write_report
from study.report.conclusion import conclusion
from study.report.page import facts, one_more_run
from study.stats import summarise
from study.tables import judge_table, table_frame, write_tables
from whisq_core.metrics import EXTRA, METRICS

RESULTS = with_cell(untrained(synthetic_results(num_seeds=3), "cross"), "cross", 1, "failed", "loss </script> is NaN")
JUDGEMENT = judge_table(RESULTS)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page without Plotly's own source, which names addresses that it never asks here."""
    out = tmp_path_factory.mktemp("report")
    (out / "table.tex").touch()
    path = write_report(RESULTS, JUDGEMENT, out)
    scripts = re.split(
        r'(?s)<script type="text/plain" id="plotly">.*?</script>', path.read_text(encoding="utf-8"), maxsplit=1
    )
    assert len(scripts) == 2, "Plotly stands in the page once"
    return "".join(scripts)


def test_the_page_asks_for_nothing(page):
    assert not re.findall(r"https?://\S+", page)
    assert not re.findall(r"<(?:link|img|iframe|script[^>]+src)|@import|url\(", page)


def test_plotly_is_inlined_once_and_the_rest_is_small(page):
    assert "plotly.js v" not in page
    assert len(page) < 500_000


def test_the_verdicts_come_first(page):
    places = [
        page.index(f'id="{name}"') for name in ("table-verdicts", "differences", "numbers", "protocol", "manifest")
    ]
    assert places == sorted(places)
    for row in JUDGEMENT.compared:
        assert f">{JUDGEMENT.rows[row].decision.verdict}</span>" in page


def test_a_sentence_on_top_tells_the_verdicts_on_the_declared_rows(page):
    sentence = re.search(r'<p class="conclusion">(.*?)</p>', page)[1]
    assert page.index(sentence) < page.index("<table")
    assert sentence.startswith("Of 6 rows compared with WhisQ w/ OT (Proposed) on TA U-SRCC, ")
    assert "— simulated data † — untrained encoder ‡. 1 of 36 runs has no result." in sentence
    assert ("read the checks first" in sentence) == bool(JUDGEMENT.notes)
    assert sum(map(int, re.findall(r"(\d+) (?:is|are|differ|cannot)", sentence))) == 6
    assert all(RESULTS.file.row(row).label in sentence for row in JUDGEMENT.compared)


def test_every_verdict_of_the_statistics_has_its_words():
    frame = table_frame(RESULTS, JUDGEMENT)
    for word in get_args(Verdict):
        decided = replace(JUDGEMENT.rows["mlp_only"].decision, verdict=word)
        rows = [replace(row, decision=decided) for row in frame.rows if row.declared.id in ("mlp_only", "whisq")]
        shown = replace(frame, sections=(replace(frame.sections[0], rows=tuple(rows)),))
        assert re.search(r"U-SRCC, 1 \w+ .*\(MLP Only †\)", conclusion(shown, JUDGEMENT)), word


def test_without_declared_rows_the_sentence_says_so():
    file = replace(RESULTS.file, compare=None)
    results = replace(RESULTS, file=file)
    judgement = judge_table(results)
    said = conclusion(table_frame(results, judgement), judgement)
    assert said.startswith("No comparison was declared: the table shows numbers without verdicts")


def test_the_page_links_the_tables_that_lie_beside_it_and_no_others(page):
    assert re.findall(r'href="(?!#)([^"]+)"', page) == ["table.tex"]


def test_plotly_is_read_after_all_that_is_shown(page):
    assert page.index('id="manifest"') < page.index('type="application/json"') < page.index("<script>")


def test_warnings_stand_above_every_number(page):
    assert page.index("Simulated data:") < page.index("Untrained encoder:") < page.index("<table")


def test_text_from_a_run_cannot_break_the_page(page):
    assert "loss &lt;/script&gt; is NaN" in page
    assert "loss </script> is NaN" not in page
    assert page.count("<script") == page.count("</script>")


def test_numbers_in_the_page_equal_those_in_the_csv(page, tmp_path):
    write_tables(RESULTS, JUDGEMENT, tmp_path)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    means = {float(line[name]) for line in lines for name in METRICS + EXTRA if line[name]}
    assert {float(text) for text in re.findall(r'<span title="([^"]+)">', page)} == means
    figure = json.loads(re.search(r'id="data-differences">(.*?)</script>', page)[1])
    differences = {float(line["difference"]) for line in lines if line["difference"]}
    assert set(figure["data"][0]["x"]) == differences


def test_every_figure_that_exists_is_in_the_page(page):
    assert re.findall(r'id="figure-(\w+)"', page) == ["differences", "seeds", "curves", "scatter", "systems"]


def test_published_numbers_are_not_compared_with_simulated_ones(page):
    assert "Published numbers are not compared (other data: our corpus is simulated), but" in page
    assert page.count('class="impossible"') == 7
    assert 'class="inside"' not in page


def test_published_numbers_are_placed_in_the_interval_of_one_more_run(tmp_path):
    real = synthetic_results(num_seeds=3, num_systems=29, num_clips=87, simulated=False)
    text = write_report(real, judge_table(real), tmp_path).read_text(encoding="utf-8")
    assert text.count('class="inside"') + text.count('class="outside"') == 7 * 16 - 7
    assert "it is placed in the 95 % interval of one further run of ours" in text


def test_one_more_run_scatters_more_than_the_mean():
    interval = summarise([0.5, 0.6, 0.7])
    low, high = one_more_run(interval)
    # 0.6 ± t(.975, 2) * 0.1 * sqrt(1 + 1/3)
    assert (low, high) == pytest.approx((0.6 - 4.30265 * 0.1154701, 0.6 + 4.30265 * 0.1154701), rel=1e-5)


def test_the_manifest_tells_where_the_numbers_come_from(page):
    told = dict(facts(RESULTS, JUDGEMENT))
    assert told["git commit"] == "0" * 40
    assert told["packages.torch"] == "2.13.0"
    assert told["corpus digest"] == RESULTS.corpus.digest
    assert told["cells"] == "35 done, 1 failed"
    assert "packages.ctranslate2" not in told
    assert all(value in page for value in told.values())
