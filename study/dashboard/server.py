"""optuna-dashboard on a storage and its artifacts, for this machine only."""

import errno
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from study.dashboard.artifacts import artifact_folder
from study.dashboard.storage import open_storage, retried
from study.store import Database, sqlite_path
from study.terminal import log
from whisq_core.errors import InputError

MIN_TRIALS = 20
"""Complete trials that a search needs before the importance of its parameters is shown."""

_IMPORTANCE = re.compile(r"/api/studies/(\d+)/param_importances")
_NO_IMPORTANCE = b'{"param_importances": [[]]}'
HOST = "127.0.0.1"  # a reviewer's own machine: the dashboard has no password

# The page gives a figure half its width and 450 pixels and cuts off the rest; the cells of a note's tables touch.
_STYLE = b"""<style>
table:not(.MuiTable-root) :is(td, th) { padding: 2px 6px; }
.MuiGrid-root:has(> .MuiCard-root [id^="user-defined-plot:"]) { flex-basis: 100%; max-width: 100%; width: 100%; }
[id^="user-defined-plot:"] { height: auto !important; min-height: 450px; }
</style></head>"""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve(url: str, port: int) -> None:
    """Run optuna-dashboard on the storage and its artifacts until Ctrl-C; port 0 takes any free one.

    Raises
    ------
    InputError
        When there is no such storage, or the port cannot be had.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise InputError(
            f"storage '{url}': there is no {path}. Give the --storage of your runs, or run: "
            "whisq-study ablate --data DIR."
        )
    database = Database(url)
    with _bind(_application(open_storage(database), artifact_folder(database.url)), port) as server:
        log(f"optuna-dashboard on http://{HOST}:{server.server_port}/ for {database.masked_url} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            log("dashboard ended")


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


def _application(storage: RDBStorage, artifacts: Path) -> Application:
    """optuna-dashboard with figures at full size, and with importance where `optimize` prints one."""
    from optuna_dashboard import wsgi

    dashboard: Application = wsgi(storage, artifact_store=FileSystemArtifactStore(artifacts))

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/dashboard"):
            return _styled(dashboard, environ, start_response)
        asked = _IMPORTANCE.fullmatch(environ["PATH_INFO"])
        if asked and not retried(partial(has_importance, storage, int(asked[1]))):
            start_response(
                "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(_NO_IMPORTANCE)))]
            )
            return [_NO_IMPORTANCE]
        return dashboard(environ, start_response)

    return application


def has_importance(storage: RDBStorage, study_id: int) -> bool:
    """Whether the importance of a study's parameters means anything: of a search with enough trials that differ.

    A table's parameters are its rows and seeds, which nothing chose; a forest on a few trials fits noise.
    """
    try:
        name = storage.get_study_name_from_id(study_id)
    except KeyError:
        return True  # optuna-dashboard says that there is none
    study = optuna.load_study(study_name=name, storage=storage)
    if study.user_attrs.get("kind") != "search":
        return False
    values = [trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    return len(values) >= MIN_TRIALS and len(set(values)) > 1


def _styled(dashboard: Application, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The dashboard's page with our style in its head."""
    answer: list[Any] = []
    page = b"".join(dashboard(environ, lambda *arguments: answer.extend(arguments)))
    styled = page.replace(b"</head>", _STYLE, 1)
    status, headers = answer[0], [(name, value) for name, value in answer[1] if name.lower() != "content-length"]
    start_response(status, [*headers, ("Content-Length", str(len(styled)))])
    return [styled]
