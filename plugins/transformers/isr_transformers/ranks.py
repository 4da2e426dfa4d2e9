"""Processes of one policy. The plugin's own is rank 0: it speaks isr's protocol, starts the others, hands each its part of
every call, and they end with it. torch is imported by the work alone, so that all processes import it at the same time."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback

from isr_plugin import BadInput

# Time for the cause of an error to become known that a process met as a lost connection, in seconds.
CAUSE_S = 5.0


class Ranks:
    """The processes behind rank 0, and calls that all of them work on."""

    def __init__(self, count, make, settings):
        """Starts the processes; `make(settings, rank, tell, cancelled)` is called in each and gives its worker."""
        self.count, self.worker, self.closed = count, None, False
        self.collective, self.hear = True, None
        self.sending, self.failing = threading.Lock(), threading.Lock()
        self.connections, self.processes, self.replies = [], [], []
        context = multiprocessing.get_context("spawn")
        for rank in range(1, count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, make, settings, rank), daemon=True)
            process.start()
            theirs.close()  # so that its end is noticed
            self.connections.append(ours)
            self.processes.append(process)
            self.replies.append(queue.SimpleQueue())
            threading.Thread(target=self.listen, args=(rank,), daemon=True).start()

    def name(self, rank):
        process = os.getpid() if rank == 0 else self.processes[rank - 1].pid
        return f"rank {rank} of {self.count} (process {process})"

    def listen(self, rank):
        """Takes in what a process sends, until it ends."""
        connection, process = self.connections[rank - 1], self.processes[rank - 1]
        try:
            while True:
                kind, value = connection.recv()
                if kind == "told":
                    self.hear(*value)
                elif kind != "done" and self.collective:
                    self.fail(f"{self.name(rank)} failed: {value}")
                else:
                    self.replies[rank - 1].put((kind, value))
        except (EOFError, OSError):
            process.join(CAUSE_S)
            if not self.closed:
                self.fail(f"{self.name(rank)} {ended(process.exitcode)}")
        except Exception as error:  # of `hear`, or a message that cannot be read
            traceback.print_exc()
            self.fail(f"{self.name(0)} failed: {explained(error)}")

    def fail(self, reason):
        """Ends all processes: what the others wait for will not come."""
        with self.failing:
            self.close()
            print(f"the {self.count} processes of the policy end: {reason}", file=sys.stderr, flush=True)
            os._exit(1)

    def close(self):
        """Ends the other processes."""
        self.closed = True
        for process in self.processes:
            process.kill()

    def send(self, rank, message):
        with self.sending:
            try:
                self.connections[rank - 1].send(message)
            except OSError:
                pass  # its end is noticed by `listen`

    def each(self, method, parts):
        """What a worker's method returns in each process, by rank; `parts` are its arguments. An error of one ends all:
        operations that all take part in would wait for it."""
        self.collective = True
        self.start(method, parts)
        try:
            own = getattr(self.worker, method)(*parts[0])
        except Exception as error:
            traceback.print_exc()
            threading.Event().wait(CAUSE_S)  # where another one's end is the cause, `listen` tells it
            self.fail(f"{self.name(0)} failed: {explained(error)}")
        return [own, *(it.get()[1] for it in self.replies)]

    def all(self, method, *arguments):
        return self.each(method, [arguments] * self.count)

    def apart(self, method, parts):
        """As `each`, of a method by which no process waits for another: the first error is raised, and nothing has
        ended."""
        self.collective = False
        self.start(method, parts)
        own, error = None, None
        try:
            own = getattr(self.worker, method)(*parts[0])
        except Exception as raised:
            error = raised
        replies = [("done", own), *(it.get() for it in self.replies)]
        for rank, (kind, value) in enumerate(replies):
            if error is None and kind == "bad_input":
                error = BadInput(value)
            elif error is None and kind == "failed":
                error = RuntimeError(f"{self.name(rank)} failed: {value}")
        if error is not None:
            raise error
        return [value for _, value in replies]

    def start(self, method, parts):
        for rank in range(1, self.count):
            self.send(rank, (method, parts[rank]))

    def cancel(self, rank, number):
        """Tells a process that nobody waits for a request's answers any more."""
        self.send(rank, ("cancel", number))


def serve(connection, make, settings, rank):
    """Works on the calls of rank 0, until that ends."""
    calls, cancelled = queue.SimpleQueue(), set()

    def listen():
        try:
            while True:
                method, arguments = connection.recv()
                if method == "cancel":
                    cancelled.add(arguments)
                else:
                    calls.put((method, arguments))
        except (EOFError, OSError):
            os._exit(1)  # rank 0 is gone

    threading.Thread(target=listen, daemon=True).start()
    worker = None
    while True:
        method, arguments = calls.get()
        try:
            if worker is None:
                worker = make(settings, rank, lambda *told: connection.send(("told", told)), cancelled)
            reply = ("done", getattr(worker, method)(*arguments))
        except BadInput as error:
            reply = ("bad_input", str(error))
        except Exception as error:
            traceback.print_exc()
            reply = ("failed", explained(error))
        connection.send(reply)


def explained(error):
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({os.path.basename(place.filename)}, line {place.lineno}, in {place.name})"


def ended(exitcode):
    if exitcode is None:
        return "closed its connection"
    if exitcode >= 0:
        return f"ended with status {exitcode}"
    number = -exitcode
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    hint = "; if nobody sent it, the host's memory ran out" if name == "SIGKILL" else ""
    return f"was ended by signal {number} ({name}){hint}"
