"""Several processes that share a model: equal to one process, and ended together. Two processes on a CPU, by gloo."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from isr_plugin import BadInput, GenerateRequest, Sampling
from safetensors.torch import load_file

import clips
import dpo
from conftest import HERE, ROOT
from isr_transformers import Transformers
from isr_transformers.group import divided, joined
from isr_transformers.model import choose_device

os.environ["PYTHONPATH"] = str(HERE / "processes")
ANSWERS = ["The dog runs.", "A red cup on the table, then nothing."]
CASES = {
    "full": ("qwen2_vl", {}, {}),
    "lora": ("qwen3_vl", {"lora": {"rank": 4, "alpha": 8}, "gradient_checkpointing": True}, {"gather": False}),
    "vision": ("llava_onevision", {"tower": True, "projector": True}, {})}


@pytest.fixture(scope="module", params=CASES)
def both(request, folder):
    """A policy in one process, and one in two."""
    family, training, settings = CASES[request.param]
    common = {"model": folder(family), "attention": "eager", "threads": 1, "training": {"micro_batch": 3, **training}}
    made = [Transformers(common), Transformers({**common, "processes": 2, **settings})]
    yield made
    made[1].close()


@pytest.fixture
def batch(video):
    """Three pairs, chosen ones first; the last has no video."""
    prompts = [clips.asked(video(seed), "What happens? " * seed) for seed in (1, 2)] + [clips.asked(None, "Why?")]
    return [clips.sequence(prompt, text + more) for text in ANSWERS for prompt, more in zip(prompts, ("", " No.", " So."))]


def step(policy, batch, references, number):
    """A DPO step on a micro-batch of five sequences and one of one, as isr takes it; log-probs, loss, norm."""
    policy.zero()
    order = [0, 3, 1, 4, 2, 5]  # pair by pair
    ordered = [batch[index] for index in order]
    scored = policy.score_batch([clips.score(it.prompt, it.continuation.text) for it in ordered])
    loss, gradients = 0.0, []
    for pair in range(3):
        own, slopes = dpo.evaluated([scores[0] for scores in scored[2 * pair:2 * pair + 2]], references[pair])
        loss, gradients = loss + own / 3, gradients + [[value / 3 for value in it] for it in slopes]
    logprobs = []
    for part in (slice(0, 5), slice(5, 6)):
        logprobs += [it.logprobs for it in policy.forward(ordered[part], number, 11)]
        policy.backward(gradients[part])
    return logprobs, loss, policy.apply(number, 1e-3, 1.0)


def close(own, other):
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(torch.tensor(one, dtype=torch.float64), torch.tensor(two, dtype=torch.float64),
                                   rtol=1e-5, atol=1e-5)


def test_answers_and_scores_are_those_of_one_process(both, video):
    one, two = both
    assert two.fingerprint() == one.fingerprint()
    prompt, told = clips.asked(video()), []

    def requests():
        long = "why " * 5000
        return [clips.generate(prompt, n=1, temperature=0.0, max_new_tokens=12), clips.generate(prompt, n=3, seed=4),
                clips.generate(clips.asked(None, long)), clips.generate(clips.asked(None, "Why?"), n=2, max_new_tokens=20),
                GenerateRequest(clips.asked(video(1)), Sampling(max_new_tokens=5), 1, 3, _tell=told.append)]

    (*own, streamed), (*others, other) = one.generate_batch(requests()), two.generate_batch(requests())
    assert isinstance(own[2], BadInput) and isinstance(others[2], BadInput) and str(own[2]) == str(others[2])
    assert own[:2] + own[3:] + [streamed] == others[:2] + others[3:] + [other]
    half = len(told) // 2
    assert half > 1 and told[:half] == told[half:]
    assert two.generate(clips.generate(prompt, n=1)) == one.generate(clips.generate(prompt, n=1))  # nothing for the second
    asked = [clips.score(clips.asked(video(seed)), *ANSWERS) for seed in (0, 1, 2)] + [clips.score(prompt, [10**6])]
    scores = [policy.score_batch(asked) for policy in both]
    assert scores[0][:3] == scores[1][:3] and all(isinstance(it[3], BadInput) for it in scores)


def test_a_cancelled_request_ends_in_each_process(both, video):
    prompt, start = clips.asked(video()), time.monotonic()
    asked = [GenerateRequest(prompt, Sampling(max_new_tokens=3900), 8, seed, _is_cancelled=lambda: time.monotonic() > start + 1)
             for seed in (1, 2)]
    assert all(isinstance(it, BadInput) for it in both[1].generate_batch(asked))


def test_training_and_checkpoints_are_those_of_one_process(both, batch, video, tmp_path):
    one, two = both
    scored = [policy.score_batch([clips.score(it.prompt, it.continuation.text) for it in batch]) for policy in both]
    sums = [sum(it[0].logprobs) for it in scored[0]]
    references = [(sums[pair] - 0.3, sums[pair + 3]) for pair in range(3)]
    for number in range(3):
        own, other = (step(policy, batch, references, number) for policy in both)
        close(own[0], other[0])
        assert other[1:] == pytest.approx(own[1:], rel=1e-5)
    folders = [tmp_path / "one", tmp_path / "two"]
    for policy, folder in zip(both, folders):
        folder.mkdir()
        policy.save(str(folder), "trainer_state")
    files = [sorted(os.listdir(folder)) for folder in folders]
    assert files[0] == files[1] and "optimizer.safetensors" in files[0]
    for name in files[0]:
        if name.endswith(".safetensors"):
            tensors = [load_file(folder / name) for folder in folders]
            assert tensors[0].keys() == tensors[1].keys()
            for key, tensor in tensors[0].items():
                torch.testing.assert_close(tensors[1][key], tensor, rtol=1e-5, atol=1e-5, msg=lambda m: f"{key}: {m}")
        else:
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name

    # What it saved continues bit for bit, and in one process as far as rounding allows.
    trained = two.fingerprint()
    after = step(two, batch, references, 3), two.fingerprint()
    with pytest.raises(Exception):
        two.load(str(tmp_path), "model")
    assert two.fingerprint() == after[1] != trained
    two.load(str(folders[1]), "trainer_state")
    assert two.fingerprint() == trained
    assert (step(two, batch, references, 3), two.fingerprint()) == after
    one.load(str(folders[1]), "trainer_state")
    assert one.fingerprint() == trained
    again = step(one, batch, references, 3)
    close(again[0], after[0][0])
    assert again[1:] == pytest.approx(after[0][1:], rel=1e-5)
    one.load(str(folders[1]), "model")
    two.load(str(folders[1]), "model")
    request = clips.generate(clips.asked(video()), n=2)
    assert two.generate(request) == one.generate(request)


def test_what_is_wrong_with_a_call_ends_nothing(both, batch):
    two = both[1]
    with pytest.raises(BadInput, match="no tokens"):
        two.forward([batch[0], clips.sequence(batch[0].prompt, [])], 0, 1)
    with pytest.raises(ValueError, match="without a forward"):
        two.backward([[0.0]])
    two.forward(batch[:2], 0, 1)
    with pytest.raises(ValueError, match="gradients of"):
        two.backward([[0.0], [0.0]])
    two.zero()
    assert two.apply(0, 0.0, None) == 0.0


def test_items_are_divided_by_cost():
    shares = divided([9, 1, 1, 5, 4], 2)
    assert shares == [[0], [1, 2, 3, 4]]
    assert joined(shares, [["a"], ["b", "c", "d", "e"]]) == list("abcde")


def test_processes_take_the_gpus_behind_each_other(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [choose_device("auto", 2, rank) for rank in (0, 1)] == [torch.device("cuda", 0), torch.device("cuda", 1)]
    monkeypatch.setenv("LOCAL_RANK", "1")  # the second plugin of `isr run --processes 2`
    assert [choose_device("auto", 2, rank).index for rank in (0, 1)] == [2, 3]
    with pytest.raises(ValueError, match="processes is 3.* cuda:3 on, but torch finds 4; set processes = 1"):
        choose_device("auto", 3)
    with pytest.raises(ValueError, match="set processes = 2 or less"):
        choose_device("cuda:2", 4)


def test_a_quantised_model_is_refused(folder, tmp_path):
    import shutil

    shutil.copytree(folder("qwen3_vl"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    quantised = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **quantised}))
    with pytest.raises(ValueError, match="quantised.*processes = 1"):
        Transformers({"model": str(tmp_path / "model"), "processes": 2})


class Plugin:
    """A plugin's process as isr starts it, with its policy in two processes."""

    def __init__(self, model, errors):
        path = os.pathsep.join([os.environ["PYTHONPATH"], str(HERE.parent), str(ROOT / "plugins" / "python")])
        self.errors = errors
        self.process = subprocess.Popen(
            [sys.executable, "-m", "isr_plugin", "--module", "isr_transformers"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors.open("wb"), env={**os.environ, "PYTHONPATH": path}, process_group=0)
        self.write({"type": "hello", "protocol": 1})
        settings = {"model": model, "attention": "eager", "threads": 1, "processes": 2, "gather": False}
        self.call(1, "configure", {"kind": "policy", "name": "transformers", "settings": settings, "exchange": "/"})

    def write(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def call(self, number, method, *params):
        calls = [{"id": number + index, "method": method, "params": it} for index, it in enumerate(params)]
        self.write({"type": "calls", "calls": calls})

    def reply(self, number):
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == number:
                return message

    def generate(self, text, *others):
        asked = [{"prompt": [{"role": "user", "parts": parts}], "sampling": {"max_new_tokens": 3000}, "n": 1, "seed": 1,
                  "stream": True} for parts in ([{"text": text}], *others)]
        self.call(2, "generate", *asked)

    def other(self):
        """The id of its second process."""
        listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        return next(int(pid) for pid, parent, args in rows if int(parent) == self.process.pid and "spawn_main" in args)

    def ended(self):
        """How it ended, and its last line on stderr."""
        return self.process.wait(30), self.errors.read_text().strip().splitlines()[-1]


@pytest.fixture(scope="module")
def plugins(folder, tmp_path_factory):
    """Three plugins, started together."""
    place = tmp_path_factory.mktemp("stderr")
    made = [Plugin(folder("qwen3_vl"), place / str(number)) for number in range(3)]
    for plugin in made:
        assert plugin.reply(1)["type"] == "result", plugin.errors.read_text()
    yield made
    for plugin in made:
        plugin.process.kill()
        plugin.process.wait()


def gone(process, within=10.0):
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            with open(f"/proc/{process}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")


@linux
def test_a_killed_process_ends_the_others_and_is_named(plugins):
    plugin, other = plugins[0], plugins[0].other()
    plugin.generate("Why?")
    assert plugin.reply(2)["type"] == "progress"
    os.kill(other, signal.SIGKILL)
    status, told = plugin.ended()
    assert status == 1 and f"rank 1 of 2 (process {other}) was ended by signal 9 (SIGKILL)" in told


@linux
def test_no_process_outlives_the_first(plugins):
    plugin, other = plugins[1], plugins[1].other()
    plugin.generate("Why?")
    assert plugin.reply(2)["type"] == "progress"
    plugin.process.kill()
    assert gone(other)


@linux
def test_an_error_in_one_process_ends_all_and_is_told(plugins):
    plugin, other = plugins[2], plugins[2].other()
    lost = {"file": "no-such-file.rgb", "shape": [4, 56, 84, 3]}
    video = {"video": "a.mp4", "frames": lost, "timestamps": [0, 1, 2, 3], "duration": 4.0, "features": None}
    plugin.generate("Why?", [{"video": video}, {"text": "What?"}])
    status, told = plugin.ended()
    assert status == 1 and f"rank 1 of 2 (process {other}) failed: FileNotFoundError" in told and "no-such-file" in told
    assert gone(other)
