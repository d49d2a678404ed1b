"""Kill a worker, and remove a whole host, at random moments of a run on two simulated hosts; compare with one process.

    python tests/evaluation/losses.py --kills 20 --hosts 6

The tables must be equal byte for byte, and no unit is computed again but those that what was lost was at.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
sys.path.insert(0, str(Path(__file__).resolve().parent))
import parts
from ray.cluster_utils import Cluster

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def trial(cluster: Cluster, number: int, folder: Path, loses_host: bool, dice: random.Random, expected: str) -> None:
    """One run."""
    calls, count = folder / f"calls-{number}", dice.randrange(1, 2 * parts.CHUNKS)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(parts.run, calls, seconds=0.3, ray=cluster.address, out=folder / f"run-{number}")
        while len(parts.called(calls)) < count and not run.done():
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.3))
        lost = time.monotonic()
        if loses_host:
            cluster.remove_node(cluster.second, allow_graceful=False)
            gone = parts.ended(calls)
        else:
            process = dice.choice([process for _, _, process in parts.called(calls)])
            os.kill(process, signal.SIGKILL)
            gone = {process}
        found = run.result(timeout=180)
    assert parts.table(found) == expected, "another table"
    again = parts.check_calls(calls, gone)
    print(
        f"{'host' if loses_host else 'kill'} at call {count}: {again} again, {time.monotonic() - lost:.1f} s to the end"
    )
    if loses_host:
        cluster.second = cluster.add_node(**SMALL)


def main(kills: int, hosts: int, seed: int) -> None:
    """All trials."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = parts.table(parts.run(folder / "alone"))
        cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        cluster.second = cluster.add_node(**SMALL)
        try:
            for number in range(kills + hosts):
                trial(cluster, number, folder, number >= kills, dice, expected)
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--hosts", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.kills, options.hosts, options.seed)
