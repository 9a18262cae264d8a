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


def power(freedom: Any, distance: Any, bound: Any) -> Any:
    """How often a t variable that lies `distance` standard errors above 0 is above `bound`; arrays broadcast."""
    from numpy import nan_to_num
    from scipy.special import nctdtr

    return 1 - nan_to_num(nctdtr(freedom, distance, bound))  # scipy gives NaN below about 1e-20
