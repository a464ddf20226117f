"""One thread a process: tests run in as many processes as there are cores, and the commands they start do too.

Commands are interrupted in some tests, so an interrupt must reach them: a shell that starts the tests in the background
lets them ignore it, and what they start would inherit that.
"""

from __future__ import annotations

import os
import signal
import threading

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
