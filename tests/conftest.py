"""One thread for every test: results on the CPU are bit-equal for one thread count only."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOG_minloglevel", "2")  # the build for GPUs warns on machines that have no cuDNN

from utils import startup

startup.configure()
