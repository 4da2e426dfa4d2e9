"""Tests of the policy: `python -m pytest`, with the package isr_plugin on the path."""

from isr_plugin import Continuation, GenerateRequest, Message, Sampling, ScoreRequest, Sequence, Video
from colour_words import ColourWords


def prompt(tmp_path, colour):
    file = tmp_path / f"{colour.hex()}.rgb"
    file.write_bytes(colour * 4)
    video = Video("a.mp4", str(file), (1, 2, 2, 3), [0.0], 1.0, file.stem)
    return [Message("user", [video, "what colour is the bar?"])]


def answer(text):
    return Continuation("answer", text=text)


def test_gradients_are_those_of_finite_differences(tmp_path):
    policy, asked = ColourWords(), prompt(tmp_path, bytes([200, 30, 10]))
    said = [answer("the bar is red"), answer("it is blue , no ?")]
    sequences = [Sequence(asked, it) for it in said]
    lengths = [len(it.token_ids) for it in policy.forward(sequences, 0, 0)]
    slopes = [[0.3 - 0.1 * place for place in range(length)] for length in lengths]
    policy.backward(slopes)

    def loss():
        scores = policy.score(ScoreRequest(asked, said))
        return sum(s * p for own, it in zip(slopes, scores) for s, p in zip(own, it.logprobs))

    for feature, vector in policy.gradients.items():
        for token in (0, 1, 20):
            weights = policy.weights.setdefault(feature, [0.0] * len(vector))
            weights[token] += 1e-4
            more = loss()
            weights[token] -= 2e-4
            slope = (more - loss()) / 2e-4
            weights[token] += 1e-4
            assert abs(slope - vector[token]) < 1e-6, (feature, token)


def test_it_learns_the_colour(tmp_path):
    policy = ColourWords()
    red, blue = prompt(tmp_path, bytes([255, 0, 0])), prompt(tmp_path, bytes([0, 0, 255]))
    for step in range(60):
        policy.zero()
        scores = policy.forward([Sequence(red, answer("red")), Sequence(blue, answer("blue"))], step, 0)
        policy.backward([[-0.5] * len(it.logprobs) for it in scores])
        policy.apply(step, 0.1, None)
    for asked, colour in ((red, "red"), (blue, "blue")):
        [response] = policy.generate(GenerateRequest(asked, Sampling(temperature=0.0), 1, 0))
        assert (response.text, response.finish_reason) == (colour, "stop")
        [scores] = policy.score(ScoreRequest(asked, [Continuation("tokens", token_ids=response.token_ids)]))
        assert scores.logprobs == response.logprobs


def test_a_checkpoint_restores_weights_and_velocity(tmp_path):
    policy, other = ColourWords(), ColourWords()
    asked = prompt(tmp_path, bytes([9, 9, 200]))

    def step(policy, number):
        policy.zero()
        [scores] = policy.forward([Sequence(asked, answer("blue"))], number, 0)
        policy.backward([[-1.0] * len(scores.logprobs)])
        policy.apply(number, 0.1, 1.0)

    step(policy, 0)
    policy.save(str(tmp_path), "trainer_state")
    step(policy, 1)
    other.load(str(tmp_path), "trainer_state")
    step(other, 1)
    assert other.fingerprint() == policy.fingerprint()
