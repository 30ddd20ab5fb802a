"""Synthetic lumbar spines with their truth: for training without patients, for tests and for demonstrations."""

from ivdjax.data.phantom.dataset import PhantomSet, write_phantoms
from ivdjax.data.phantom.options import CHANNELS, FIELDS, HARD_KINDS, PhantomOptions
from ivdjax.data.phantom.phantom import DiscTruth, Phantom, make_phantom

__all__ = [
    "CHANNELS", "FIELDS", "HARD_KINDS", "DiscTruth", "Phantom", "PhantomOptions", "PhantomSet", "make_phantom",
    "write_phantoms",
]  # fmt: skip
