"""How many cores a run uses: where one of its threads shares a core with another process, all of them wait for it at every step."""

import logging
import os

import psutil
import torch

SAMPLE_S = 0.5  # this process sleeps meanwhile, so that what is busy is others'
AT_START = torch.get_num_threads()

log = logging.getLogger(__name__)


def use_free_cores(before: int | None = None) -> int:
    """Give torch a thread for each free core, at least one; returns their number. ``OMP_NUM_THREADS`` decides where it is set.

    Args:
        before: the number that the run began with, if it is resumed: another number of threads gives other last bits.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    n_threads = before or max(1, min(AT_START, round(_free())))
    if n_threads < AT_START and not before:
        log.info("  cores are busy: using %d of %d; OMP_NUM_THREADS=%d uses all", n_threads, AT_START, AT_START)
    torch.set_num_threads(n_threads)
    return n_threads


def _free() -> float:
    """Cores that this process may use and others do not."""
    busy = psutil.cpu_percent(SAMPLE_S, percpu=True)
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(busy))
    return sum(1 - busy[core] / 100 for core in own)
