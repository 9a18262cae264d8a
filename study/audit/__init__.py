"""Published numbers: which rank correlations can occur, what so few systems leave open, where our intervals lie.

`audit` judges a table; `place_row` puts published cells beside our own intervals.
"""

from study.audit.check import Audit, audit
from study.audit.placement import place_row, why_not_comparable

__all__ = ["Audit", "audit", "place_row", "why_not_comparable"]
