"""Several processes that share a model: equal to one process, and ended together. Two processes on a CPU, by gloo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from isr_plugin import BadInput, GenerateRequest, Sampling
from safetensors.torch import load_file

import clips
import dpo
from conftest import HERE, ROOT
from isr_transformers import Transformers
from isr_transformers.group import divided, joined
from isr_transformers.model import LoadedModel, choose_device
from isr_transformers.settings import Settings, read

os.environ["PYTHONPATH"] = str(HERE / "processes")
ANSWERS = ["The dog runs.", "A red cup on the table, then nothing."]
CASES = {
    "full": ("qwen2_vl", {}, {}),
    "lora": ("qwen3_vl", {"lora": {"rank": 3, "alpha": 6}, "gradient_checkpointing": True}, {"gather": False}),
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


def same(own, others):
    """Asserts equal answers, with log-probabilities equal but for rounding, which differs by processor."""
    assert len(own) == len(others) > 0
    for one, other in zip(own, others):
        assert (one.token_ids, one.text, one.finish_reason) == (other.token_ids, other.text, other.finish_reason)
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-5)


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
    for pair in zip(own[:2] + own[3:] + [streamed], others[:2] + others[3:] + [other]):
        same(*pair)
    half = len(told) // 2
    assert half > 1 and told[:half] == told[half:]
    same(two.generate(clips.generate(prompt, n=1)), one.generate(clips.generate(prompt, n=1)))  # nothing for the second
    asked = [clips.score(clips.asked(video(seed)), *ANSWERS) for seed in (0, 1, 2)] + [clips.score(prompt, [10**6])]
    scores = [policy.score_batch(asked) for policy in both]
    for own, other in zip(scores[0][:3], scores[1][:3]):
        assert [it.logprobs for it in other] == [pytest.approx(it.logprobs, abs=1e-5) for it in own]
    assert all(isinstance(it[3], BadInput) for it in scores)


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
    same(two.generate(request), one.generate(request))


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
    shutil.copytree(folder("qwen3_vl"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    quantised = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **quantised}))
    with pytest.raises(ValueError, match="quantised.*processes = 1"):
        LoadedModel(read(Settings, {"model": str(tmp_path / "model"), "processes": 2}))


def others_of(process):
    """The ids of the processes that another one has started as ranks."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return found


def gone(process, within=20.0):
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
PATH = [str(HERE), str(HERE.parent), str(ROOT / "plugins" / "python")]


def started(path, *arguments):
    """A process with pipes, the leader of a group as isr makes it."""
    return subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(path)}, text=True,
                            process_group=0)


@linux
def test_a_process_killed_while_others_wait_for_it_ends_them_and_is_named(folder):
    plugin = started([str(HERE / "processes"), *PATH], "-m", "isr_plugin", "--module", "isr_transformers")
    settings = {"model": folder("qwen3_vl"), "attention": "eager", "threads": 1, "processes": 2, "gather": False}
    configure = {"kind": "policy", "name": "transformers", "settings": settings, "exchange": "/"}
    prompt = [{"role": "user", "parts": [{"text": "Why?"}]}]
    generate = {"prompt": prompt, "sampling": {"max_new_tokens": 4000}, "n": 1, "seed": 1, "stream": True}
    for message in ({"type": "hello", "protocol": 1},
                    {"type": "calls", "calls": [{"id": 1, "method": "configure", "params": configure}]},
                    {"type": "calls", "calls": [{"id": 2, "method": "generate", "params": generate}]}):
        plugin.stdin.write(json.dumps(message) + "\n")
    plugin.stdin.flush()
    assert any(json.loads(line)["type"] == "progress" for line in plugin.stdout), plugin.stderr.read()
    other, = others_of(plugin.pid)
    os.kill(other, signal.SIGKILL)
    plugin.stdout.read()
    told = plugin.stderr.read().strip().splitlines()[-1]
    assert plugin.wait(30) == 1 and f"rank 1 of 2 (process {other}) was ended by signal 9 (SIGKILL)" in told
    plugin.communicate()


@linux
def test_no_process_outlives_the_first():
    first = started(PATH, str(HERE / "ranks_alone.py"), "idle", "3")
    assert first.stdout.readline() == "ready\n", first.stderr.read()
    others = others_of(first.pid)
    assert len(others) == 2
    first.kill()
    assert all(gone(other) for other in others)
    first.communicate()


@linux
def test_an_error_in_one_process_ends_all_and_is_told():
    first = started(PATH, str(HERE / "ranks_alone.py"), "fail", "3")
    assert first.stdout.readline() == "ready\n", first.stderr.read()
    others = others_of(first.pid)
    first.stdin.write("go\n")
    told = first.communicate(timeout=30)[1].strip().splitlines()[-1]
    assert first.returncode == 1 and "rank 2 of 3 (process " in told and "failed: OSError: out of paper" in told
    assert len(others) == 2 and all(gone(other) for other in others)
