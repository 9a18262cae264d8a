"""Student's t, central and not, without the time that an import of scipy takes where no verdict is needed."""

from typing import Any


def quantile(freedom: Any, probability: Any) -> Any:
    """The value below which a t variable of `freedom` degrees lies with this probability; arrays broadcast."""
    from scipy.special import stdtrit

    return stdtrit(freedom, probability)


def upper_p(freedom: Any, t: Any) -> Any:
    """The probability of a value above `t`."""
    from scipy.special import stdtr  # scipy.stats, which wraps it, takes another second

    return stdtr(freedom, -t)


def power(freedom: Any, distance: Any, level: float) -> Any:
    """How often a two-sided test at `level` finds a difference of `distance` standard errors; arrays broadcast."""
    bound = -quantile(freedom, level / 2)
    return power_one_sided(freedom, distance, bound) + 1 - power_one_sided(freedom, distance, -bound)


def power_one_sided(freedom: Any, distance: Any, bound: float) -> Any:
    """How often a t variable that lies `distance` standard errors above 0 is above `bound`."""
    from scipy.special import nctdtr

    return 1 - nctdtr(freedom, distance, bound)
