"""Settings of the whole process."""

from .kernels._launch import get_num_threads, set_num_threads, threads

__all__ = ["get_num_threads", "set_num_threads", "threads"]
