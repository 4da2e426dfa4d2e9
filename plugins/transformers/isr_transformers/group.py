"""A policy's calls, divided over its processes (`ranks.py`), of which each has a part of the weights (`sharding.py`)."""

import itertools
import threading

from .ranks import Ranks

# How often a process is told that nobody waits for a request any more, in seconds.
CANCEL_S = 0.1


def make_worker(settings, rank, tell, cancelled):
    from .worker import Worker  # imports torch

    return Worker(settings, rank, tell, cancelled)


class Group:
    """Divides each call of a policy, and puts together what the processes return."""

    def __init__(self, settings):
        self.count, self.numbers, self.known = settings.processes, itertools.count(), None
        self.ranks, self.streams, self.sizes = Ranks(self.count, make_worker, settings), {}, None
        self.ranks.hear = self.hear

    def load(self, worker):
        """Loads the model in all processes; `worker` is that of this one."""
        self.ranks.worker, nothing = worker, [()] * self.count
        try:
            self.ranks.apart("load", nothing)
        except BaseException:
            self.close()
            raise
        self.ranks.all("join", worker.open())

    def close(self):
        self.ranks.close()
        sharding = getattr(getattr(self.ranks.worker, "loaded", None), "sharding", None)
        if sharding is not None:
            sharding.leave()

    def fingerprint(self):
        """The digest of the weights, which is that of one process."""
        if self.known is None:
            _, *others = self.ranks.apart("checksums", [()] * self.count)
            self.known = self.ranks.worker.digest.text(*others)
        return self.known

    def generate(self, requests):
        """As a policy's `generate_batch`: each request is one process's, so that its prompt is computed once and its answers
        are those of one process."""
        shares = divided([it.n * it.sampling.max_new_tokens for it in requests], self.count)
        sent = {}
        for rank in range(1, self.count):
            for index in shares[rank]:
                sent[next(self.numbers)] = (rank, requests[index])
        parts = [[requests[index] for index in shares[0]]] + [
            [self.asked(number, it) for number, (of, it) in sent.items() if of == rank] for rank in range(1, self.count)]
        self.streams, done = sent, threading.Event()
        watching = threading.Thread(target=self.watch, args=(sent, done), daemon=True)
        watching.start()
        try:
            results = self.ranks.each("generate", [(it,) for it in parts])
        finally:
            done.set()
            watching.join()
        made = joined(shares, results)
        for request, (prompt_tokens, _) in zip(requests, made):
            request._prompt_tokens = prompt_tokens
        return [it for _, it in made]

    def asked(self, number, request):
        from .worker import Asked  # by now torch is imported

        return Asked(number, request.prompt, request.sampling, request.n, request.seed, request._tell is not None)

    def hear(self, number, progress):
        """Hands the progress of a request on."""
        _, request = self.streams[number]
        request._tell(progress)

    def watch(self, sent, done):
        """Tells the processes which of their requests are cancelled."""
        waiting = dict(sent)
        while waiting and not done.wait(CANCEL_S):
            for number, (rank, request) in list(waiting.items()):
                if request.cancelled():
                    self.ranks.cancel(rank, number)
                    del waiting[number]

    def score(self, requests):
        """As a policy's `score_batch`, with token ids and log-probs."""
        shares = divided([1 + len(it.continuations) for it in requests], self.count)
        return joined(shares, self.ranks.each("score", [([requests[index] for index in own],) for own in shares]))

    def forward(self, sequences, step, seed):
        """Token ids and log-probs of each sequence of a micro-batch."""
        self.sizes = None
        shares = [range(rank, len(sequences), self.count) for rank in range(self.count)]
        answers = self.prepared("prepare", [([sequences[index] for index in own],) for own in shares])
        logprobs = joined(shares, self.ranks.all("forward", len(shares[0]), step, seed))
        self.sizes = [len(it) for it in logprobs]
        return list(zip(joined(shares, answers), logprobs))

    def backward(self, gradients):
        if self.sizes is None:
            raise ValueError("backward without a forward before it")
        sizes, self.sizes = self.sizes, None
        if [len(it) for it in gradients] != sizes:
            raise ValueError(f"backward got gradients of {[len(it) for it in gradients]} tokens for sequences of {sizes}")
        self.ranks.each("backward", [(gradients[rank::self.count],) for rank in range(self.count)])

    def apply(self, step, learning_rate, max_grad_norm):
        self.sizes = self.known = None
        return self.ranks.all("apply", step, learning_rate, max_grad_norm)[0]

    def zero(self):
        self.sizes = None
        self.ranks.all("zero")

    def collect(self, what):
        """What a checkpoint is written of, whole and in this process."""
        return self.ranks.all("collect", what)[0]

    def prepared(self, method, parts):
        """What each process returns of a method that keeps something for the next one; nothing is kept where one fails."""
        try:
            return self.ranks.apart(method, parts)
        except Exception:
            self.ranks.all("drop")
            raise

    def take_over(self, folder, what):
        """Loads a checkpoint, once all processes have read and compared it."""
        self.prepared("read", [(folder, what)] * self.count)
        self.known = self.sizes = None
        self.ranks.all("take")


def divided(costs, count):
    """Indices of items for each of `count` processes: the next item to the one that has least to do."""
    shares, loads = [[] for _ in range(count)], [0] * count
    for index, cost in enumerate(costs):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += cost
    return shares


def joined(shares, results):
    """The results of all processes in the order of the items; `shares` are their indices."""
    found = {index: value for own, values in zip(shares, results) for index, value in zip(own, values)}
    return [found[index] for index in sorted(found)]
