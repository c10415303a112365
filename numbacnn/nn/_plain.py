"""Whether a layer does what its class does, so that something else may do it instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._module import Module


def is_plain(module: Module, kind: type[Module]) -> bool:
    """Whether a module is of a kind and computes as that kind does."""
    return isinstance(module, kind) and type(module).forward is kind.forward and "forward" not in vars(module)


def runs_as(module: Module, kind: type[Module]) -> bool:
    """Whether, besides, nobody watches or changes what goes in and comes out."""
    return is_plain(module, kind) and not module._forward_hooks and not module._forward_pre_hooks
