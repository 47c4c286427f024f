"""The copy of a network that an optimised model is made of."""

import copy

import torch

from cascadezoo.modeling.network import Network
from cascadezoo.optimizing.cpu import for_cpu
from cascadezoo.optimizing.cudnn import for_cudnn
from cascadezoo.optimizing.lean import lean
from cascadezoo.optimizing.memory import keep_freed_memory
from cascadezoo.optimizing.precision import Settings


@torch.inference_mode(False)
@torch.no_grad()
def prepared(network: Network, settings: Settings) -> Network:
    """The network's lean form, cast once, and with the layers that suit the device.

    It shares with ``network`` what does not change, unless it gets a CPU's layers.  The RPN's objectness keeps its
    float32 weights: it is computed in float32 (``cascadezoo.modeling.rpn``).
    """
    made = lean(network, settings.device)
    objectness = copy.deepcopy(made.rpn.objectness)
    made.to(settings.dtype)
    made.rpn.objectness = objectness
    if settings.device.type == "cpu" and not settings.compile:  # torch.compile brings layers of its own
        for_cpu(made, settings.exact)
        _let_go(made, network)
        keep_freed_memory()
    if settings.device.type == "cuda" and not settings.compile:
        for_cudnn(made)
    return made


def _let_go(made: Network, network: Network) -> None:
    """Copy what the two share, on a CPU little: one tensor of a file keeps all of its pages in memory."""
    shared = {x.untyped_storage().data_ptr() for x in (*network.parameters(), *network.buffers())}
    for x in (*made.parameters(), *made.buffers()):
        if not x.is_mkldnn and x.untyped_storage().data_ptr() in shared:
            x.data = x.data.clone()
