"""cpgen with ``fused=True``: what joining multiplications and additions, as the peers do, would bring."""

from __future__ import annotations

from benchmarks.peers import peer_cpgen
from benchmarks.peers.methods import Methods
from benchmarks.peers.workloads import Workload


def methods(workload: Workload, real: str, threads: int) -> Methods:
    if not workload.single:
        yield from peer_cpgen.methods(workload, real, threads, fused=True)
