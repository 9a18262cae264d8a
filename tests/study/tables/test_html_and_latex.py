"""What only HTML and LaTeX have: exact numbers under the pointer, bold, escaped text, a page that compiles."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.results import synthetic_results, untrained, wide, with_cell
from hypothesis import given, settings
from hypothesis import strategies as st

from study.tables import judge_table
from study.tables.frame import table_frame
from study.tables.html import html
from study.tables.latex import bold_rows, escape, latex
from study.tables.numbers import signed
from whisq_core.metrics import EXTRA, METRICS

RESULTS = synthetic_results(num_seeds=8)
JUDGEMENT = judge_table(RESULTS)


def test_bold_stands_only_where_a_verdict_supports_it():
    frame = table_frame(RESULTS, JUDGEMENT)
    better = {row.declared.id for row in frame.rows if row.decision and row.decision.verdict == "better"}
    assert not better
    assert bold_rows(frame) == better
    assert r"\bfseries" not in latex(frame)
    assert bold_rows(_with_words(frame, "worse")) == {"whisq"}
    assert bold_rows(_with_words(frame, "better")) == set(JUDGEMENT.compared) | {"aa"}
    assert latex(_with_words(frame, "worse")).count(r"\bfseries") == 1
    assert bold_rows(table_frame(RESULTS, None)) == frozenset()


def _with_words(frame, word):
    """The frame with every verdict replaced."""

    def changed(row):
        return replace(row, decision=replace(row.decision, verdict=word)) if row.decision else row

    sections = tuple(replace(section, rows=tuple(map(changed, section.rows))) for section in frame.sections)
    return replace(frame, sections=sections)


class _Numbers(HTMLParser):
    """The exact means that an HTML table holds, in order, with the text shown for them."""

    def __init__(self):
        super().__init__()
        self.row, self.exact, self.found = None, None, []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.row = attributes.get("data-row", self.row)
        self.exact = attributes.get("title") if tag == "span" else None

    def handle_data(self, data):
        if self.exact is not None:
            self.found.append((self.row, float(self.exact), data))
            self.exact = None


def test_html_numbers_equal_those_of_the_csv():
    parser = _Numbers()
    parser.feed(html(table_frame(RESULTS, JUDGEMENT)))
    lines = wide(RESULTS, JUDGEMENT)
    names = ["ta.utterance.srcc"], [name for name in METRICS + EXTRA if name[0] == "o"], METRICS[8:] + EXTRA[1:]
    expected = [
        (row, float(lines[row][name])) for table in names for row in lines for name in table if lines[row][name]
    ]
    assert [(row, exact) for row, exact, _ in parser.found] == expected
    for _, exact, shown in parser.found:
        assert float(shown.replace("−", "-")) == pytest.approx(exact, abs=5.0001e-4)


def test_each_interval_in_latex_has_the_level_that_it_has_in_the_csv():
    shown = re.findall(r"\]_\{([0-9.]+)\}\$", latex(table_frame(RESULTS, JUDGEMENT)))
    lines = [line for line in wide(RESULTS, JUDGEMENT).values() if line["both_low"]]
    assert shown == [f"{100 * float(line['both_level']):.3g}" for line in lines]
    assert len(set(shown)) > 1


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="ab\\{}&%$#_~^<>±†λ ", max_size=12))
def test_escaped_text_holds_no_character_that_latex_would_obey(text):
    plain = escape(text)
    written = (
        r"\textbackslash{} \textasciitilde{} \textasciicircum{} $\dagger$ $\lambda$ $\pm$ $<$ $>$ \{ \} \& \% \$ \# \_"
    )
    for command in written.split(" "):
        plain = plain.replace(command, "")
    assert not set(plain) & set("\\{}&%$#_~^<>±†λ")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_the_latex_table_compiles_with_labels_that_need_escaping(tmp_path: Path):
    failed = with_cell(
        untrained(RESULTS, "cross"), "cross", 3, "failed", r"C:\temp\{x} 50 % of $HOME & a_b ~ #1 ^2 −λ ≥ Δ"
    )
    frame = _with_words(table_frame(failed, JUDGEMENT), "worse")
    (tmp_path / "table.tex").write_text(latex(frame), encoding="utf-8")
    document = (
        r"\IfFileExists{IEEEtran.cls}{\documentclass[conference]{IEEEtran}}"
        r"{\documentclass[10pt,twocolumn]{article}\usepackage[margin=0.7in]{geometry}}\usepackage{booktabs,siunitx}"
        r"\begin{document}\input{table.tex}\end{document}"
    )
    (tmp_path / "document.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    if "siunitx.sty' not found" in done.stdout or "booktabs.sty' not found" in done.stdout:
        pytest.skip("this LaTeX has no siunitx or booktabs")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", "document.pdf", "-"]
        printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        differences = [row.comparison.mean for row in frame.rows if row.comparison]
        shown = {signed(value).replace("-", "−") for value in differences if not math.isnan(value)}
        assert any(text.startswith("+") for text in shown)
        assert shown <= set(printed.stdout.split())
