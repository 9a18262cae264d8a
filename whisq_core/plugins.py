"""Parts of a run, and metrics, that other packages bring; an ablation file never names code.

A package declares an entry point in a group ``whisq_study.KIND``. In a file the part is called ``DISTRIBUTION.ENTRY``,
such as ``my-parts.gated``: none of our own names has a dot, and no two distributions share a name. The distribution
and its version are part of a run's identity (`used`). What each kind is called with:

* ``attention``: ``make(spec: ModelSpec) -> nn.Module`` whose ``forward(audio, audio_mask, text, text_mask)`` takes
  [batch, frames, dim], [batch, frames], [batch, tokens, dim] and [batch, tokens] (masks are true where valid) and
  returns the TA head's input, [batch, 2 dim]. `make` draws initial weights from PyTorch's global generator, which the
  run's seed has set; `forward` draws nothing, except through `whisq_core.model.Dropout`.
* ``objective``: ``objective(audio, audio_mask, text, text_mask, loss: LossSpec) -> [batch]``, shapes as above: what
  training makes small, differentiable, times ``loss.ot_weight``. It draws nothing.
* ``encoder``: ``make(kind: "audio" | "text")`` returns an object with ``dim``, for audio also ``sample_rate``, and
  ``encode(wave or prompt) -> float32 array [frames, dim]``: the same array whenever it gets the same input.
* ``metric``: ``metric(predicted, truth) -> float`` of two float64 arrays [items], with an attribute
  ``higher_is_better``. It is a metric ``TARGET.LEVEL.DISTRIBUTION.ENTRY`` of each target, ``utterance`` (the items) or
  ``system`` (means of each system's items). NaN says that it is undefined, as of constant predictions. Draws nothing:
  it is computed from stored predictions whenever it is read, and no part of a run's identity. How much an item moves it
  is found by leaving it out (the jackknife), which wants a smooth metric: of a median or a share of items above a bound
  the errors over systems are rough.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from packaging.utils import canonicalize_name

from whisq_core.errors import InputError

KINDS = ("attention", "objective", "encoder", "metric")
PATTERN = r"^[a-z0-9][a-z0-9-]*\.[^\s.].*$"
ENCODER_SCHEME = "plugin:"  # before the name of an encoder, where folders and hub ids may have dots too
_SETTINGS = {
    "model.attention": "attention",
    "loss.alignment": "objective",
    "backbone.audio": "encoder",
    "backbone.text": "encoder",
}


@dataclass(frozen=True)
class Plugin:
    """An installed part, and the distribution that brought it, as ``name==version``."""

    kind: str
    name: str
    distribution: str
    entry: EntryPoint

    def load(self) -> Any:
        """The object behind the entry point.

        Raises
        ------
        InputError
            When its module cannot be imported.
        """
        with self.blamed():
            return self.entry.load()

    def error(self, what: str) -> InputError:
        """One line that names the plug-in and who brought it."""
        return InputError(
            f"{self.kind} plug-in '{self.name}' of {self.distribution}: {what}. Mend or update that package, or take "
            "another part."
        )

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Inside, whatever the plug-in raises becomes one line that names it; memory that runs out stays what it is."""
        try:
            yield
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())
            if isinstance(error, MemoryError) or "out of memory" in text or "DefaultCPUAllocator" in text:
                raise
            raise self.error(f"{type(error).__name__}: {text[:300].rstrip('.') or 'no reason given'}") from error


@cache
def installed(kind: str) -> Mapping[str, Plugin]:
    """The plug-ins of a kind by their names, in alphabetical order."""
    found = {}
    for entry in entry_points(group=f"whisq_study.{kind}"):
        assert entry.dist is not None, "entry points of an installed distribution"
        distribution = canonicalize_name(entry.dist.name)
        name = f"{distribution}.{entry.name}"
        found[name] = Plugin(kind, name, f"{distribution}=={entry.dist.version}", entry)
    return dict(sorted(found.items()))


def versions() -> dict[str, str]:
    """The installed distributions that bring plug-ins, and their versions."""
    found = (plugin.distribution.partition("==") for kind in KINDS for plugin in installed(kind).values())
    return {name: version for name, _, version in found}


def is_plugin(name: str) -> bool:
    """Whether the value of an attention or an objective, or a statistic, names a plug-in, installed or not."""
    return "." in name


def find(kind: str, name: str) -> Plugin:
    """The installed plug-in of this name.

    Raises
    ------
    InputError
        When it is not installed; with those that are.
    """
    if name not in installed(kind):
        raise InputError(f"{kind} plug-in '{name}': not installed here. {listed(kind)} Install its package.")
    return installed(kind)[name]


def listed(kind: str) -> str:
    """The installed plug-ins of a kind as a sentence."""
    return f"Installed {kind} plug-ins: {', '.join(installed(kind)) or 'none'}."


def used(settings: Mapping[str, Any]) -> dict[str, Plugin]:
    """The plug-ins that a run's dotted settings name, by setting.

    Raises
    ------
    InputError
        When one of them is not installed.
    """
    found = {}
    for setting, kind in _SETTINGS.items():
        name = str(settings.get(setting, ""))
        if kind == "encoder":
            named = name.startswith(ENCODER_SCHEME)
            name = name.removeprefix(ENCODER_SCHEME)
        else:
            named = is_plugin(name)
        if named:
            found[setting] = find(kind, name)
    return found
