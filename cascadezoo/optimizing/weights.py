"""The copy of a network that an optimised model is made of."""

import copy

import torch

from cascadezoo.modeling.network import Network
from cascadezoo.optimizing.lean import lean


@torch.inference_mode(False)
@torch.no_grad()
def prepared(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """The network's lean form on ``device``, cast once to ``dtype``.

    It shares with ``network`` what does not change.  The RPN's objectness keeps its float32 weights: it is computed in
    float32 (``cascadezoo.modeling.rpn``).
    """
    made = lean(network, device)
    objectness = copy.deepcopy(made.rpn.objectness)
    made.to(dtype)
    made.rpn.objectness = objectness
    return made
