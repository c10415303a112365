"""Data sets, loading in batches, and splitting."""

from ._dataset import ArrayDataset, Dataset, Subset
from ._digits import load_digits
from ._loader import DataLoader
from ._normalize import Normalize
from ._npz import load_npz
from ._split import train_test_split

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "Dataset",
    "Normalize",
    "Subset",
    "load_digits",
    "load_npz",
    "train_test_split",
]
