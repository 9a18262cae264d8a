"""`ablate`, `encode` and `report`: prepare, compute and publish a table.

`prepare` reads, checks and plans; `run` computes what is missing and leaves complete tables.
"""

from study.ablation.ablate import AblateRequest, Prepared, encode, exit_status, prepare, report, run, show_plan
from study.ablation.publish import owner_of
from study.ablation.which import stored_table

__all__ = [
    "AblateRequest",
    "Prepared",
    "encode",
    "exit_status",
    "owner_of",
    "prepare",
    "report",
    "run",
    "show_plan",
    "stored_table",
]
