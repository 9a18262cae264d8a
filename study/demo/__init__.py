"""The built-in demonstration: a simulated corpus and the table that is made from it.

`demo` does what `whisq-study demo` does, `DEMO_FILE` is the table's ablation file, and `write_demo_corpus` writes the
corpus alone.
"""

from study.demo.corpus import write_demo_corpus
from study.demo.run import DEMO_FILE, demo

__all__ = ["DEMO_FILE", "demo", "write_demo_corpus"]
