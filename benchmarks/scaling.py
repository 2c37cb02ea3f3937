"""Lowering and verifying networks of 5,000 and 10,000 blocks: time grows with the blocks.

Two shapes: one stage of N blocks under the chain rule, and N / 50 stages of 50 blocks under the
densely additive rule. Each is checked from text to verified graph in this process.
"""

from __future__ import annotations

import sys
import time
from statistics import median

from danetc import compiler

RATIO, LIMIT = 2.3, 20.0
SIZES = (5_000, 10_000)
RUNS = 3

HEAD = """use std
network deep {
  input = image(3, 8, 8);  steps = 4;  neuron = IF;  surrogate = sigmoid(alpha = 4)
  stem = conv(8) -> norm -> spike
  """
TAIL = "\n  head = avgpool -> mean_over_time -> linear(10)\n}\n"


def chain(blocks: int) -> str:
    return f"{HEAD}stages = stage(basic(8), {blocks}) via origin{TAIL}"


def densely_additive(blocks: int) -> str:
    stages = " -> ".join(["stage(basic(8), 50)"] * (blocks // 50))
    return f"{HEAD}stages = ({stages}) via origin by densely_additive{TAIL}"


def seconds(text: str, blocks: int) -> float:
    """CPU seconds from text to verified graph."""
    start = time.process_time()
    graph = compiler.graph_of(compiler.check_text(text), None, {})
    spent = time.process_time() - start
    assert sum(len(stage.blocks) for stage in graph.stages) == blocks
    return spent


def main() -> int:
    failed = False
    for make in (chain, densely_additive):
        seconds(make(100), 100)  # the standard library is parsed once
        small, large = (median(seconds(make(size), size) for _ in range(RUNS)) for size in SIZES)
        print(
            f"{make.__name__}: {SIZES[0]:,} blocks {small:.2f} s, "
            f"{SIZES[1]:,} blocks {large:.2f} s (limit {LIMIT:g} s), "
            f"ratio {large / small:.2f} (limit {RATIO})"
        )
        failed |= large > LIMIT or large / small > RATIO
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
