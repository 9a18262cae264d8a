"""How numbers are shown: three decimals, undefined as a dash. Files for machines have all digits instead."""

import math

from study.stats import Interval

UNDEFINED = "–"


def number(value: float) -> str:
    """`0.611`, or a dash when undefined; what rounds to zero has no sign."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def signed(value: float) -> str:
    """`+0.012` or `-0.012`."""
    text = number(value)
    return text if math.isnan(value) or text == "0.000" or value < 0 else f"+{text}"


def p_value(value: float) -> str:
    """`0.012`, `<0.001`, or a dash."""
    return "<0.001" if value < 0.0005 else number(value)


def mean_sd(value: Interval) -> str:
    """`0.611 ± 0.012`; a single seed has no deviation."""
    return f"{number(value.mean)} {deviation(value)}".rstrip()


def interval(value: Interval) -> str:
    """`[-0.012, +0.034]`, or a dash when undefined."""
    if math.isnan(value.low) or math.isnan(value.high):
        return UNDEFINED
    return f"[{signed(value.low)}, {signed(value.high)}]"


def at_level(value: tuple[Interval, float]) -> str:
    """`[-0.012, +0.034] 99.2 %`: an interval with its own level."""
    shown = interval(value[0])
    return shown if shown == UNDEFINED else f"{shown} {100 * value[1]:.3g} %"


def percent(value: float) -> str:
    """`+12.3 %` of a share, or a dash."""
    return UNDEFINED if math.isnan(value) else f"{100 * value:+.1f} %"


def deviation(value: Interval) -> str:
    """`± 0.012`, or nothing for a single seed."""
    return "" if math.isnan(value.sd) else f"± {number(value.sd)}"


def amount(value: int | None) -> str:
    """A count with separators, or nothing when unknown."""
    return "" if value is None else f"{value:,}"
