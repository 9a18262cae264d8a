"""The notebook of `examples`, executed without a kernel: its cells are plain Python and share one namespace."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import Place

NOTEBOOK = Path(__file__).parents[3] / "examples/verdicts.ipynb"


def shown_by(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last expression, as a notebook shows it."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


def test_the_notebook_runs_from_top_to_bottom(saved: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = tmp_path / "results/demo"
    shutil.copytree(saved.out, demo)
    shutil.copytree(saved.corpus, demo / "corpus")
    shutil.copy(saved.folder / "whisq.db", demo)
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    namespace: dict[str, Any] = {}
    shown = [shown_by("".join(cell["source"]), namespace) for cell in cells if cell["cell_type"] == "code"]

    judged, verdicts, figure, stored = shown[1], shown[2], shown[3], shown[6]
    assert verdicts.set_index("row")["verdict"].to_dict() == {
        "base": "reference",
        "shorter": "equivalent",
        "cheaper": "worse",
    }
    assert "beyond the noise of seeds and speakers" in judged._repr_html_()
    assert len(figure.data) > 0
    assert "WhisQ w/o OT" in stored._repr_html_()
    assert list(shown[-1].columns) == ["audio", "prompt", "omq", "ta", "omq_sd", "ta_sd", "seeds"]
