"""What a reviewer sees in optuna-dashboard: a note per study, saved figures, and the server on the right storage."""

import errno
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import sqlalchemy as sa
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import StudySystemAttributeModel

from study.dashboard.artifacts import artifact_folder
from study.engine.preflight import check_storage, check_stored
from study.engine.queue import open_storage
from study.store.database import Database
from study.store.urls import engine_options, full
from study.terminal import say
from whisq_core.errors import InputError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HOST = "127.0.0.1"  # a reviewer's own machine: the dashboard has no password

# Where optuna_dashboard.save_plotly_graph_object keeps figures: <prefix><name>:<number of the piece>.
_FIGURE = "dashboard:plot_data:"
_PIECE = 2045  # characters of a figure's JSON in one attribute

_IMPORTANCES = re.compile(r"/api/studies/(\d+)/param_importances/?")
# The page gives a figure half its width and 450 pixels and cuts off the rest; the cells of a note's tables touch.
_STYLE = b"""<style>
table:not(.MuiTable-root) :is(td, th) { padding: 2px 6px; }
.MuiGrid-root:has(> .MuiCard-root [id^="user-defined-plot:"]) { flex-basis: 100%; max-width: 100%; width: 100%; }
[id^="user-defined-plot:"] { height: auto !important; min-height: 450px; }
</style></head>"""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def annotate(database: Database, study_name: str, note: str, figures: Mapping[str, "Figure"]) -> None:
    """Put a Markdown note and Plotly figures on a study, in place of all that an earlier call has put there."""
    from optuna_dashboard import save_note

    study = optuna.load_study(study_name=study_name, storage=open_storage(database))
    save_note(study, note.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"))  # a number stays in one line
    pieces = [
        {"study_id": study._study_id, "key": key, "value_json": json.dumps(piece)}
        for name, figure in figures.items()
        for key, piece in _pieces(name.replace("_", "-"), figure.to_json())
    ]
    model = StudySystemAttributeModel
    old = sa.delete(model).where(model.study_id == study._study_id, model.key.startswith(_FIGURE))
    # One transaction instead of one for each piece: hundreds take seconds, and a reader would see torn figures.
    with database.exclusive(), database.engine.begin() as connection:
        connection.execute(old)
        if pieces:
            connection.execute(sa.insert(model), pieces)


def _pieces(name: str, text: str) -> list[tuple[str, str]]:
    starts = range(0, len(text), _PIECE)
    return [(f"{_FIGURE}{name}:{number}", text[start : start + _PIECE]) for number, start in enumerate(starts)]


def serve(url: str, port: int) -> None:
    """Run optuna-dashboard on the storage and its artifacts until Ctrl-C; port 0 takes any free one.

    Raises:
        InputError: when there is no such storage, or the port cannot be had.
    """
    check_stored(url, "whisq-study ablate --data DIR")
    check_storage(url)
    database = Database(url)
    open_storage(database)
    # Not that one for reading: it begins every SQLite transaction as a writer, and a page of many trials takes long.
    storage = RDBStorage(full(url), engine_kwargs=engine_options(url))
    with _bind(_mended(storage, artifact_folder(url)), port) as server:
        say(f"optuna-dashboard on http://{HOST}:{server.server_port}/ for {database.masked_url} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("dashboard ended")


class _Server(ThreadingMixIn, WSGIServer):
    """A slow page does not hold up the others."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """No line for each request."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing; what fails is logged by optuna-dashboard."""


def _bind(application: Application, port: int) -> WSGIServer:
    try:
        return make_server(HOST, port, application, server_class=_Server, handler_class=_Quiet)
    except OverflowError:
        raise InputError(f"--port {port}: allowed are 0 to 65535; 0 takes any free one.") from None
    except OSError as error:
        why = "in use by another program" if error.errno == errno.EADDRINUSE else str(error.strerror).lower()
        raise InputError(f"--port {port}: {why}. Give another one, or 0 for any free one.") from None


def _mended(storage: RDBStorage, artifacts: Path) -> Application:
    """optuna-dashboard, with figures at full size and without the alarm about a table that has no parameters."""
    from optuna_dashboard import wsgi

    dashboard: Application = wsgi(storage, artifact_store=FileSystemArtifactStore(artifacts))

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = _IMPORTANCES.fullmatch(environ["PATH_INFO"])
        if found and not _has_parameters(storage, int(found[1])):
            body = json.dumps({"param_importances": [[]]}).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        if environ["PATH_INFO"].startswith("/dashboard"):
            return _styled(dashboard, environ, start_response)
        return dashboard(environ, start_response)

    return application


def _has_parameters(storage: RDBStorage, study_id: int) -> bool:
    """Whether a study searches anything; optuna-dashboard divides by the number of parameters."""
    try:
        return storage.get_study_user_attrs(study_id).get("kind") != "ablation"
    except KeyError:  # no such study: for the dashboard to say
        return True


def _styled(dashboard: Application, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The dashboard's page with our style in its head."""
    answer: list[Any] = []
    page = b"".join(dashboard(environ, lambda *arguments: answer.extend(arguments)))
    styled = page.replace(b"</head>", _STYLE, 1)
    status, headers = answer[0], [(name, value) for name, value in answer[1] if name.lower() != "content-length"]
    start_response(status, [*headers, ("Content-Length", str(len(styled)))])
    return [styled]
