"""Real data sets that need no download, as plain NumPy arrays: split, and scaled with training statistics."""

from .dataset import DataSet
from .loading import NAMES, load

__all__ = ["NAMES", "DataSet", "load"]
