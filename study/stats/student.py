"""Student's t, without the time that an import of scipy takes in a process that needs no verdict."""

from typing import Any


def quantile(freedom: Any, probability: Any) -> Any:
    """The value below which a t variable of `freedom` degrees lies with this probability; arrays broadcast."""
    from scipy.special import stdtrit

    return stdtrit(freedom, probability)


def two_sided_p(freedom: float, t: float) -> float:
    """The probability of a value at least as far from 0 as `t`."""
    from scipy.special import stdtr  # scipy.stats, which wraps it, takes another second

    return float(2 * stdtr(freedom, -abs(t)))
