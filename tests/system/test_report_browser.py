"""The report in a real browser: no complaint, no request, each figure drawn."""

import pytest
from helpers import browser
from helpers.results import synthetic_results, untrained

from study.report import figures, write_report
from study.search import importance_figure
from study.search.importance import Importance, Importances
from study.tables import judge_table

pytestmark = pytest.mark.skipif(browser.executable() is None, reason="no chromium on this machine")

NAMES = ["differences", "seeds", "curves", "scatter", "systems", "importance"]
FOUND = Importances((Importance("train.learning_rate", 0.7, 0.05, 1.0),), 0.02, 0.01, 40, "table2-whisq")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    results = untrained(synthetic_results(num_seeds=3), "cross")
    judgement = judge_table(results)
    drawn = figures(results, judgement) | {"importance": importance_figure(FOUND)}
    path = write_report(results, judgement, tmp_path_factory.mktemp("report"), drawn)
    with browser.page(tmp_path_factory.mktemp("profile"), width=1366) as tab:
        tab.emulate(1366)
        tab.open(path)
        tab.wait_for(f"document.querySelectorAll('.figure > div > .plot-container').length == {len(NAMES)}")
        yield tab


def test_the_console_is_silent(tab):
    assert tab.problems == []


def test_nothing_is_asked_of_the_network(tab):
    outside = [address for address in tab.requests if not address.startswith(("file:", "data:"))]
    assert outside == []
    assert sum(address.startswith("file:") for address in tab.requests) == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_drawn_with_all_its_marks(tab, name):
    script = f"""(() => {{
      const figure = document.getElementById('figure-{name}');
      const marks = figure.querySelectorAll('.scatterlayer .trace path, .barlayer .point path, .heatmaplayer image');
      const box = figure.querySelector('.main-svg').getBoundingClientRect();
      return [marks.length, box.width, box.height];
    }})()"""
    num_marks, width, height = tab.evaluate(script)
    assert num_marks > 0
    assert width > 800
    assert height > 150


def test_the_verdict_table_fits_a_laptop_without_scrolling(tab):
    assert tab.evaluate("(() => { const t = document.querySelector('#table-verdicts').parentElement;"
                        " return t.scrollWidth <= t.clientWidth; })()")  # fmt: skip


def test_the_menu_shows_the_predictions_of_another_row(tab):
    script = """(async () => {
      const figure = document.getElementById('figure-scatter');
      const button = figure.layout.updatemenus[0].buttons[2];
      await Plotly.restyle(figure, ...button.args);
      return figure.data.map(trace => trace.visible);
    })()"""
    assert tab.evaluate(script)[:16] == [False] * 8 + [True] * 4 + [False] * 4


def test_a_browser_that_meets_a_mistake_would_tell(tmp_path):
    """The listener itself works: a page with an error and a request is caught."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<script>fetch('http://127.0.0.1:1/x').catch(() => 0); console.error('boo'); nothing();</script>",
        encoding="utf-8",
    )
    with browser.page(tmp_path / "profile") as tab:
        tab.open(faulty)
        tab.evaluate("new Promise(done => setTimeout(done, 200))")
        assert any("boo" in problem for problem in tab.problems)
        assert any("nothing is not defined" in problem for problem in tab.problems)
        assert "http://127.0.0.1:1/x" in tab.requests


def test_on_a_phone_every_verdict_is_seen_without_scrolling_sideways(tab):
    tab.emulate(420)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ends = tab.evaluate(
        "[...document.querySelectorAll('#table-verdicts .word')].map(e => e.getBoundingClientRect().right)"
    )
    assert len(ends) > 6
    assert max(ends) < 420
    tab.emulate(1366)


def test_in_the_dark_the_page_is_dark_and_on_paper_it_is_white(tab):
    colour = "getComputedStyle(document.body).backgroundColor"
    tab.emulate(1366, scheme="dark")
    assert tab.evaluate(colour) == "rgb(25, 25, 25)"
    assert "invert" in tab.evaluate("getComputedStyle(document.getElementById('figure-seeds')).filter")
    tab.emulate(1366, medium="print", scheme="dark")
    assert tab.evaluate(colour) == "rgb(255, 255, 255)"
    tab.emulate(1366)


def test_on_paper_no_column_is_cut_and_there_are_no_toolbars(tab):
    tab.emulate(1032, medium="print")  # A4 landscape without margins of 12 mm, at 96 pixels per inch
    ends = tab.evaluate("[...document.querySelectorAll('td, th')].map(e => e.getBoundingClientRect().right)")
    assert max(ends) <= 1032
    assert (
        tab.evaluate("document.querySelector('nav').offsetHeight + document.querySelector('.modebar').offsetHeight")
        == 0
    )
    tab.emulate(1366)


def test_printing_draws_every_figure_at_the_width_of_the_paper_and_then_of_the_window(tab):
    tab.evaluate("""addEventListener("beforeprint", () => {
      window.printed = [...document.querySelectorAll('.figure > div')].map(e => e._fullLayout.width); })""")
    printed = tab.pdf()
    assert b"/MediaBox [0 0 842" in printed or b"/MediaBox [0 0 841." in printed
    assert tab.evaluate("window.printed") == [1000] * len(NAMES)
    assert tab.evaluate(
        "[...document.querySelectorAll('.figure > div')].every(e => e._fullLayout.width == e.clientWidth)"
    )
    assert tab.problems == []
