"""torchrun, with its errors in one sentence: ``python tools/dist_run.py TORCHRUN_OPTIONS SCRIPT ARGUMENTS``.

Each process reports its own error; torchrun would add a traceback for each of them.
"""

from __future__ import annotations

import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> None:
    """Run the command."""
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        run.main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            print(f'process {rank} ended with status {failure.exitcode}, so all were stopped', file=sys.stderr)
            sys.exit(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        sys.exit(f'error: process {rank} was killed by {name}, so all were stopped; SIGKILL is often a lack of memory')
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except RuntimeError as error:  # the processes do not connect
        sys.exit(f'error: {" ".join(str(error).split())}; set another PORT, or MASTER_ADDR to the address of node 0')


if __name__ == '__main__':
    main()
