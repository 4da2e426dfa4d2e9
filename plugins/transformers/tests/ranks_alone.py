"""`python ranks_alone.py idle|fail COUNT`: processes of a policy whose work waits for nobody or fails in the last one."""

import sys
import threading

from isr_transformers.ranks import Ranks


class Worker:
    def __init__(self, last, rank, *_):
        self.is_last = rank == last

    def meet(self):
        pass

    def idle(self):
        threading.Event().wait()

    def fail(self):
        if self.is_last:
            raise OSError("out of paper")
        self.idle()


if __name__ == "__main__":
    method, count = sys.argv[1], int(sys.argv[2])
    ranks = Ranks(count, Worker, count - 1)
    ranks.worker = Worker(count - 1, 0)
    ranks.all("meet")
    print("ready", flush=True)
    sys.stdin.readline()
    ranks.all(method)
