"""Peak memory of this process, on CUDA or on a CPU."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from pathlib import Path

import torch


class PeakMemory:
    """Peak memory in MiB since this object was made.

    On CUDA it is the peak of what the allocator handed out, weights included. On a CPU it is the peak resident size of
    the process less its resident size at the beginning.

    Args:
        device (str): ``'cuda'``, or another for the CPU.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device == 'cuda'
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._reset()
        self.before = 0.0 if self.cuda else self._resident()

    def read(self) -> float:
        """The peak so far.

        Returns:
            float: MiB.
        """
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        return self._resident() - self.before

    @staticmethod
    def _reset() -> None:
        """Where Linux allows it, return freed memory to the system and reset the peak.

        Elsewhere work that needs less memory than was used before it is reported as 0.
        """
        with suppress(OSError, AttributeError):
            ctypes.CDLL('libc.so.6').malloc_trim(0)
            Path('/proc/self/clear_refs').write_text('5')

    @staticmethod
    def _resident() -> float:
        """The peak since the reset; not ru_maxrss, which a child process inherits from its parent on Linux."""
        with suppress(OSError):
            line = next(line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line)
            return int(line.split()[1]) / 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
