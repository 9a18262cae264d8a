"""What more of seeds or test systems would settle, at 80 % power by the noncentral t, and what a design can resolve."""

import math
from collections.abc import Callable
from functools import partial

from study.stats import student
from study.stats.items import MIN_GROUPS, Error
from study.stats.uncertainty import ALPHA, Comparison, seeds_needed, smallest_p

POWER = 0.8
MANY = 100_000  # beyond this a number is no advice
# Of a difference of two utterance-level correlations near .6 on MusicEval-like tables (results/calibration.csv):
TYPICAL_SEED_ERROR = 0.014  # times 1 / sqrt(seeds)
TYPICAL_SYSTEM_ERROR = 0.33  # times 1 / sqrt(systems), errors of two unrelated rows
SHARED_SYSTEM_ERROR = 0.13  # of rows that make mostly the same errors
_FAR, _MANY_DEGREES = 30.0, 1e6  # beyond these the power is 1, and t is normal
_EFFECTS = (0.02, 0.05, 0.1, 0.15, 0.2)


def scaled(error: Error, now: int, then: int) -> Error:
    """What an error over `now` seeds or systems becomes over `then`."""
    return Error(error.value * math.sqrt(now / then), error.freedom * then / now)


def power(distance: float, error: Error, level: float) -> float:
    """How often a two-sided test finds a true difference; a difference without any error always."""
    if error.value == 0:
        return float(distance != 0)
    freedom = min(error.freedom, _MANY_DEGREES)
    steps, bound = min(abs(distance) / error.value, _FAR), -student.quantile(freedom, level / 2)
    return float(student.power(freedom, steps, bound) + 1 - student.power(freedom, steps, -bound))


def equivalence_power(distance: float, margin: float, error: Error, level: float) -> float:
    """How often both one-sided tests pass when the true difference is `distance`, at least."""
    if error.value == 0:
        return float(abs(distance) < margin)
    freedom = min(error.freedom, _MANY_DEGREES)
    bound = -student.quantile(freedom, level / 2)
    steps = (min((margin - side * distance) / error.value, _FAR) for side in (1, -1))
    return float(1 - sum(1 - student.power(freedom, step, bound) for step in steps))


Aim = tuple[float, str]  # a count, infinite where none is enough, and words for what it would do


def more_systems(found: Comparison, level: float, margin: float) -> Aim:
    """The systems with which the difference, if it stays what it is, or equivalence would be found.

    More seeds are part of the advice where as many as there are would ask for more than twice the systems.
    """

    def count(by_seeds: Error, same: bool) -> float:
        def chance(systems: int) -> float:
            error = by_seeds + scaled(found.beyond_seeds, found.num_systems, systems)
            return _chance(found, error, level, margin, same)

        return _smallest(chance, found.num_systems + 1)

    aims = []
    for same, words in _aims(found, margin):
        as_many, any_number = count(found.by_seeds, same), count(Error(0.0, 1), same)
        aims.append((as_many, words) if as_many <= 2 * any_number else (any_number, f"{words}, with more seeds"))
    return min(aims)


def more_seeds(found: Comparison, level: float, margin: float, fewest: int) -> Aim:
    """The seeds with which the difference, or equivalence, would be found on as many systems."""

    def chance(same: bool, seeds: int) -> float:
        error = scaled(found.by_seeds, found.n, seeds) + found.beyond_seeds
        return _chance(found, error, level, margin, same)

    aims = [(math.inf, "")]
    for same, words in _aims(found, margin):
        if _chance(found, found.beyond_seeds, level, margin, same) >= POWER:  # else no number of seeds is enough
            aims.append((_smallest(partial(chance, same), max(found.n + 1, fewest)), words))
    return min(aims)


def _aims(found: Comparison, margin: float) -> list[tuple[bool, str]]:
    """What can be aimed at: the difference, and for a small one equivalence."""
    different = (False, "")
    return [different, (True, f", as equivalent within ±{margin:g}")] if abs(found.mean) < margin else [different]


def _chance(found: Comparison, error: Error, level: float, margin: float, same: bool) -> float:
    return equivalence_power(found.mean, margin, error, level) if same else power(found.mean, error, level)


def _smallest(chance: Callable[[int], float], low: int) -> float:
    """The smallest count of enough power: counts are doubled until one is, then halved in between."""
    high = low
    while chance(high) < POWER:
        low, high = high + 1, 2 * high
        if low > MANY:
            return math.inf
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle + 1, high)
    return high


def resolved(error: Error, level: float) -> float:
    """The difference that is found at 80 % power."""
    low, high = 0.0, _FAR * error.value
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, error, level) < POWER else (low, middle)
    return high


def typical(num_seeds: int, num_systems: int, shared: bool) -> Error:
    """The error of a difference of two utterance-level correlations before anything is known of the rows."""
    size = SHARED_SYSTEM_ERROR if shared else TYPICAL_SYSTEM_ERROR
    by_seeds = Error(TYPICAL_SEED_ERROR / math.sqrt(num_seeds), max(num_seeds - 1, 1))
    return by_seeds + Error(size / math.sqrt(num_systems), num_systems - 1)


def design(
    num_comparisons: int, num_seeds: int, num_systems: int, errors: list[Error] | None = None
) -> tuple[str, ...]:
    """What a table can decide whatever comes out of it, in sentences.

    Parameters
    ----------
    num_comparisons, num_seeds, num_systems
        The declared rows, the seeds of each, and the systems whose clips are scored.
    errors
        The combined errors of the declared rows, where they are known; before that those of like tables are taken.
    """
    needed, level = seeds_needed(num_comparisons), ALPHA / num_comparisons
    rows = f"{num_comparisons} comparison{'s need' if num_comparisons > 1 else ' needs'}"
    first = (
        f"{rows} at least {needed} seeds (the smallest p of {needed} sign flips, {smallest_p(needed):.2g}, is within "
        f".05/{num_comparisons} = {level:.2g}); this table has {num_seeds}."
    )
    if num_seeds < needed:
        return first, "No verdict 'better' or 'worse' can come out; 'equivalent' still can."
    if num_systems < MIN_GROUPS:
        return (
            first,
            f"{num_systems} test systems are too few for verdicts beyond them: at least {MIN_GROUPS} are needed.",
        )
    if errors is not None:
        known = [resolved(error, level) for error in errors if not math.isnan(error.value)]
        if not known:
            return (first,)
        return first, f"At 80 % power these rows resolve differences above {_range(known)} (by their measured errors)."
    apart, alike = (resolved(typical(num_seeds, num_systems, shared), level) for shared in (False, True))
    return first, (
        f"At 80 % power {num_seeds} seeds and {num_systems} test systems resolve a difference of utterance-level "
        f"correlations above about {apart:.2g} between rows with unrelated errors, {alike:.2g} between rows with "
        "mostly shared errors."
    )


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.2g}", f"{max(values):.2g}"
    return low if low == high else f"{low} to {high}"


def power_curve(num_comparisons: int, num_seeds: int, num_systems: int) -> list[str]:
    """How often one of the declared rows is found, by difference, seeds, systems and kind of rows: a small table.

    Of utterance-level correlations, with errors like those of MusicEval; empty where no verdict can come out.
    """
    if num_systems < MIN_GROUPS or num_seeds < seeds_needed(num_comparisons):
        return []
    designs = [(num_seeds, num_systems), (2 * num_seeds, num_systems), *((num_seeds, k * num_systems) for k in (2, 4))]
    level = ALPHA / num_comparisons
    lines = [f"{'power to find a difference of':<42}" + "".join(f"{effect:>6.2f}" for effect in _EFFECTS)]
    for shared, kind in ((False, "unrelated errors"), (True, "mostly shared errors")):
        for seeds, systems in designs:
            error = typical(seeds, systems, shared)
            cells = (f"{100 * power(effect, error, level):>4.0f} %" for effect in _EFFECTS)
            lines.append(f"{f'  {seeds} seeds, {systems} systems, {kind}':<42}" + "".join(cells))
    return lines
