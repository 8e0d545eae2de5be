"""Models: multilayer perceptrons and their derivatives, without any loss."""

from .activations import Activation
from .mlp import MLP, two_layer

__all__ = ["MLP", "Activation", "two_layer"]
