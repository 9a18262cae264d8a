"""Published tables as data: `table2.csv` holds the printed strings of every row, so that its digits can be judged.

Its sources are Table II of the WhisQ paper (whose heading "OQM" is OMQ) and two READMEs on the same dev set.
"""

from study.published.paper import NUM_SYSTEMS, PUBLISHED, PublishedRow

__all__ = ["NUM_SYSTEMS", "PUBLISHED", "PublishedRow"]
