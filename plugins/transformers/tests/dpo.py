"""DPO's loss (arXiv 2305.18290, equation 7) of one pair, and its gradients by the log-probs of the tokens."""

import torch

BETA = 0.1


def loss_of(chosen, rejected, references):
    margin = (chosen.sum() - references[0]) - (rejected.sum() - references[1])
    return -torch.nn.functional.logsigmoid(BETA * margin)


def evaluated(scores, references):
    """The loss, and a list of gradients for each of the two scored sequences."""
    logps = [torch.tensor(it.logprobs, dtype=torch.float64, requires_grad=True) for it in scores]
    loss = loss_of(*logps, references)
    loss.backward()
    return loss.item(), [it.grad.tolist() for it in logps]


def train(policy, sequences, references, step, learning_rate=1e-3, max_grad_norm=1.0):
    """A step of training as isr takes it; the loss before it and the norm of its gradient."""
    policy.zero()
    loss, gradients = evaluated(policy.forward(sequences, step, 11), references)
    policy.backward(gradients)
    return loss, policy.apply(step, learning_rate, max_grad_norm)
