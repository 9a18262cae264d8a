"""Features: clips and prompts encoded once, on disk, and mapped into memory by every process that trains on them.

A `FeatureStore` holds one safetensors file per clip or prompt, a `FeatureTable` rows of a store, a `Dataset` the rows
and labels that training takes. Stores of earlier formats (`*.features`) are not read; their folders may be deleted.
"""

from whisq_core.features.store import FeatureKey, FeatureStore, StoreMeta
from whisq_core.features.table import Dataset, FeatureTable

__all__ = ["Dataset", "FeatureKey", "FeatureStore", "FeatureTable", "StoreMeta"]
