"""From settings to stored runs: what a command works on, the plan of a table, and the coordinator of all computing.

`preflight` reads and checks, `plan` compares with what is stored, `Pool.run` computes tasks and stores their runs.
"""

from study.engine.encode import encode_backbones
from study.engine.execute import execute, metrics_of, score
from study.engine.plan import Cell, State, plan
from study.engine.pool import Pool
from study.engine.preflight import (
    OWN_FOLDERS,
    Inputs,
    Sources,
    check_splits,
    check_writable,
    collect_errors,
    make_folder,
    open_database,
    output_folder,
    preflight,
)
from study.engine.provenance import manifest
from study.engine.tasks import Failure, Jobs, Task, Watch
from study.engine.workspace import NUMERICS_VERSION, Identity, Workspace, identify

__all__ = [
    "NUMERICS_VERSION",
    "OWN_FOLDERS",
    "Cell",
    "Failure",
    "Identity",
    "Inputs",
    "Jobs",
    "Pool",
    "Sources",
    "State",
    "Task",
    "Watch",
    "Workspace",
    "check_splits",
    "check_writable",
    "collect_errors",
    "encode_backbones",
    "execute",
    "identify",
    "make_folder",
    "manifest",
    "metrics_of",
    "open_database",
    "output_folder",
    "plan",
    "preflight",
    "score",
]
