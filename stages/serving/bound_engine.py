"""Become another program, which the kernel asks to end when its parent does: PROGRAM [WORD ...].

This file is run as a program, by `stages.serving.engines`, and imports nothing of ours. The signal stays over
`exec` (prctl(2), PR_SET_PDEATHSIG), so an engine need know nothing of it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent's life and run the program in its place."""
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "this kernel does not end an engine with its parent")
    if os.getppid() != parent:  # it ended before the kernel was told
        sys.exit("the parent is gone")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
