"""An attention of another package, as the model takes it: called, and what it returns checked."""

from functools import cached_property

from torch import nn

from whisq_core.model.alignment import checked
from whisq_core.model.attention import Attention, Joint, Side
from whisq_core.plugins import Plugin, find
from whisq_core.spec import ModelSpec


class PluginAttention(Attention):
    """The attention that an installed package brings; it always takes whole sequences and pools them itself."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.commutes, self.dim, self.name = False, spec.feature_dim, spec.attention
        with self.plugin.blamed():
            module = self.plugin.load()(spec)
        if not isinstance(module, nn.Module):
            raise self.plugin.error(f"returns {type(module).__name__} instead of a torch.nn.Module")
        self.module = module

    @cached_property
    def plugin(self) -> Plugin:
        """Who brought it; looked up where the model is."""
        return find("attention", self.name)

    def unpooled(self, audio: Side, text: Side) -> Joint:
        """What the plug-in makes of both sequences."""
        inputs = (*audio.sequence, *text.sequence)
        with self.plugin.blamed():
            found = self.module(*inputs)
        return checked(self.plugin, found, (len(audio.pooled), 2 * self.dim), inputs)
