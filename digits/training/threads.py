"""How many cores a run uses: where one of its threads shares a core with another process, all of them wait for it at every step."""

import logging
import os

import psutil
import torch

SAMPLE_S = 0.2  # this process sleeps meanwhile, so that what is busy is others'
AT_START = torch.get_num_threads()

log = logging.getLogger(__name__)


def use_free_cores(before: int | None = None) -> int:
    """Give torch a thread for each free core, at least one; returns their number. ``OMP_NUM_THREADS`` decides where it is set.

    Args:
        before: the number that the run began with, if it is resumed: another number of threads gives other last bits.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    free = AT_START if AT_START == 1 else round(AT_START * (1 - psutil.cpu_percent(SAMPLE_S) / 100))
    n_threads = before or max(1, free)
    if n_threads < AT_START and not before:
        log.info(
            "  %d of %d cores are busy: %d threads; OMP_NUM_THREADS=%d uses all", AT_START - free, AT_START, n_threads, AT_START
        )
    torch.set_num_threads(n_threads)
    return n_threads
