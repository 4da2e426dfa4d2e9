"""What does not depend on the family: settings, prompts, sampling, memory, failures."""

import shutil

import numpy
import pytest
import torch
from isr_plugin import BadInput, Continuation, GenerateRequest, Message, Sampling

import clips
import dpo
from isr_transformers import Transformers
from isr_transformers.decode import pick, uniform_numbers
from isr_transformers.model import choose_device

ANSWERS = ["The dog runs.", "A red cup on the table, then nothing."]


@pytest.mark.parametrize("settings, named", [
    ({"trained": True}, "trained"), ({"dtype": "int8"}, "dtype"), ({"model": ""}, "model"), ({"batch": 0}, "batch"),
    ({"training": {"micro_batch": 0}}, "training.micro_batch"), ({"training": {"betas": [0.9, 1.0]}}, "training.betas"),
    ({"training": {"language_model": False}}, "trains nothing"), ({"training": {"lora": 8}}, "training.lora"),
    ({"training": {"lora": {"rank": 0}}}, "training.lora.rank"),
    ({"training": {"lora": {"targets": ["nowhere"]}}}, "nowhere"),
    ({"training": {"lora": {"targets": "q_proj"}}}, "training.lora.targets")])
def test_a_bad_setting_is_named(settings, named, policy):
    with pytest.raises(ValueError, match=named):
        policy("qwen3_vl", **settings)


def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch):
    if not torch.cuda.is_available():
        assert choose_device("auto") == torch.device("cpu")
        with pytest.raises(ValueError, match="cpu"):
            choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert choose_device("auto") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [str(choose_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:3", "cuda:1", "cpu"]


def test_the_schema_has_a_help_text_for_each_setting():
    def walk(schema):
        for name, rules in schema["properties"].items():
            assert len(rules["description"]) > 10, name
            if "properties" in rules:
                walk(rules)

    walk(Transformers.schema)
    assert Transformers.schema["required"] == ["model"]


def test_sampling_follows_the_truncated_distribution():
    logits = torch.tensor([[1.0, 3.0, 2.0, -1.0, 2.5]])
    uniform = torch.linspace(0, 1, 20001, dtype=torch.float64)[:-1]

    def shares(**settings):
        rows = logits.expand(len(uniform), -1)
        return torch.bincount(pick(rows, uniform, Sampling(**settings)), minlength=5) / len(uniform)

    def expected(kept, temperature=1.0):
        weights = torch.where(torch.tensor([n in kept for n in range(5)]), (logits[0] / temperature).exp(), 0.0)
        return weights / weights.sum()

    torch.testing.assert_close(shares(), expected(range(5)), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares(temperature=0.5), expected(range(5), 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares(top_k=2), expected([1, 4]), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares(top_p=0.75), expected([1, 4]), atol=1e-3, rtol=0)  # 0.43 + 0.26 < 0.75
    assert shares(temperature=0.0)[1] == 1
    assert not torch.equal(uniform_numbers(1, 0, 4), uniform_numbers(1, 1, 4))


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(policy, video):
    it, prompt = policy("qwen3_vl"), clips.asked(video())
    whole = it.generate(clips.generate(prompt, n=1, max_new_tokens=12))[0]
    stop = whole.text[6:8]
    told = []
    request = GenerateRequest(prompt, Sampling(max_new_tokens=12, stop=[stop]), 1, 1, _tell=told.append)
    cut = it.generate(request)[0]
    assert cut.finish_reason == "stop" and cut.text == whole.text[:whole.text.index(stop)]
    assert cut.token_ids == whole.token_ids[:len(cut.token_ids)]
    assert "".join(it["text"] for it in told if "text" in it) == cut.text
    assert told[0] == {"prompt_tokens": it.prompts.render(prompt).length}


def test_an_answer_ends_with_its_end_of_turn_token(policy, video):
    it, prompt = policy("qwen3_vl"), clips.asked(video())
    end = it.prompts.end
    with torch.no_grad():
        it.loaded.net.lm_head.weight[end] *= 6
    answers = it.generate(clips.generate(prompt, n=8, max_new_tokens=40))
    ended = [answer for answer in answers if answer.finish_reason == "stop"]
    assert ended and all(answer.token_ids[-1] == end and end not in answer.token_ids[:-1] for answer in ended)
    assert not any("<|" in answer.text for answer in answers)
    assert it.score(clips.score(prompt, ended[0].token_ids))[0].logprobs == pytest.approx(ended[0].logprobs, abs=1e-4)


def test_special_tokens_in_a_text_are_plain_text(policy, video):
    it = policy("qwen3_vl")
    ids = it.prompts.render(clips.asked(video(), "a<|im_end|>b<|video_pad|>")).inputs["input_ids"][0].tolist()
    plain = it.prompts.render(clips.asked(video(), "ab")).inputs["input_ids"][0].tolist()
    assert ids.count(it.prompts.end) == plain.count(it.prompts.end)
    assert it.prompts.end not in it.prompts.answer_ids(Continuation("answer", text="a<|im_end|>b"))[:-1]


def test_openings_have_no_end_of_turn_token(policy):
    prompts = policy("qwen3_vl").prompts
    opening = prompts.answer_ids(Continuation("opening", text="A red"))
    assert prompts.answer_ids(Continuation("answer", text="A red")) == [*opening, prompts.end]


def test_what_the_model_cannot_take_is_bad_input(policy, video):
    it, prompt = policy("qwen3_vl"), clips.asked(video())
    with pytest.raises(BadInput, match="context"):
        it.generate(clips.generate(clips.asked(None, "why " * 5000)))
    with pytest.raises(BadInput, match="vocabulary"):
        it.score(clips.score(prompt, [10**6]))
    with pytest.raises(BadInput, match="no tokens"):
        it.score(clips.score(prompt, []))
    values = it.generate_batch([clips.generate(clips.asked(None, "why " * 5000)), clips.generate(prompt)])
    assert isinstance(values[0], BadInput) and len(values[1]) == 2


def test_a_conversation_of_several_turns_and_videos(policy, video):
    turns = [Message("system", ["Be brief."]), *clips.asked(video(1)), Message("assistant", ["A dog."]),
             *clips.asked(video(2), "And here?")]
    for family in ("qwen3_vl", "gemma3", "internvl"):
        it = policy(family)
        answers = it.generate(clips.generate(turns))
        other = it.generate(clips.generate([*turns[:-1], *clips.asked(video(3), "And here?")]))
        assert answers[0].logprobs != other[0].logprobs
        assert it.score(clips.score(turns, answers[0].token_ids))[0].logprobs == pytest.approx(
            answers[0].logprobs, abs=1e-4)


def test_results_do_not_depend_on_the_cache(policy, video):
    request = clips.generate(clips.asked(video()))
    for family in ("qwen3_vl", "gemma3", "llava_next_video"):
        kept, none = policy(family), policy(family, cache_mb=0)
        first = kept.generate(request)
        held = kept.cache.held
        assert held > 0 and none.cache.held == 0
        assert kept.generate(request) == first == none.generate(request)
        assert kept.cache.held == held


def test_a_trained_tower_and_projector_get_gradients(policy, video):
    prompt = clips.asked(video())
    pair = [clips.sequence(prompt, text) for text in ANSWERS]
    it = policy("llava_onevision", training={"tower": True, "projector": True, "language_model": False})
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    before = {name: weight.clone() for name, weight in it.loaded.net.named_parameters()}
    losses = [dpo.train(it, pair, references, step)[0] for step in range(2)]
    assert losses[1] < losses[0]
    weights = it.loaded.net.named_parameters()
    changed = {name.split(".")[1] for name, weight in weights if not torch.equal(weight, before[name])}
    assert {"vision_tower", "multi_modal_projector"} <= changed and "language_model" not in changed


def gradients(it, pair, seed=1):
    references = [-40.0, -60.0]
    it.zero()
    it.backward(dpo.evaluated(it.forward(pair, 0, seed), references)[1])
    return {name: weight.grad.clone() for name, weight in it.loaded.trained() if weight.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients(policy, video):
    pair = [clips.sequence(clips.asked(video()), text) for text in ANSWERS]
    for training in ({}, {"lora": {"rank": 4, "dropout": 0.3}}):
        computed = []
        for it in (policy("qwen3_vl", training={**training, "gradient_checkpointing": chosen}) for chosen in (False, True)):
            calls = []
            it.loaded.net.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
            computed.append((gradients(it, pair), len(calls)))
        (plain, once), (saved, twice) = computed
        assert (once, twice) == (2, 4)  # two sequences, computed again in the backward pass
        assert plain.keys() == saved.keys() and len(plain) > 10
        for name, gradient in plain.items():
            torch.testing.assert_close(saved[name], gradient)


def test_dropout_follows_the_seed(policy, video):
    it = policy("qwen3_vl", training={"lora": {"rank": 4, "dropout": 0.5}})
    pair = [clips.sequence(clips.asked(video()), text) for text in ANSWERS]
    first, again, other = gradients(it, pair), gradients(it, pair), gradients(it, pair, seed=2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_bfloat16_weights_are_trained_by_float32_copies(policy, video, tmp_path):
    it = policy("qwen2_5_vl", dtype="bfloat16")
    prompt = clips.asked(video())
    pair = [clips.sequence(prompt, text) for text in ANSWERS]
    answers = it.generate(clips.generate(prompt))
    assert it.score(clips.score(prompt, answers[0].token_ids))[0].logprobs == pytest.approx(answers[0].logprobs, abs=0.2)
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    # Steps far below bfloat16's resolution add up.
    losses = [dpo.train(it, pair, references, step, 2e-5)[0] for step in range(30)]
    assert losses[-1] < losses[0]
    assert all(weight.dtype == torch.bfloat16 and weight.grad is None for _, weight in it.loaded.trained())
    assert all(master.dtype == torch.float32 for master in it.trainer.masters.values())
    it.save(str(tmp_path), "trainer_state")
    other = policy("qwen2_5_vl", dtype="bfloat16")
    other.load(str(tmp_path), "trainer_state")
    steps = [dpo.train(one, pair, references, 30) for one in (it, other)]
    assert steps[0] == steps[1]
    assert other.fingerprint() == it.fingerprint()


def test_gradients_of_micro_batches_add_up(policy, video):
    pair = [clips.sequence(clips.asked(video()), text) for text in ANSWERS]
    it = policy("qwen3_vl")
    slopes = [[0.5] * len(score.logprobs) for score in it.forward(pair, 0, 1)]
    it.backward(slopes)
    whole = it.apply(0, 0.0, None)
    it.zero()
    for sequence, slope in zip(pair, slopes):
        it.forward([sequence], 0, 1)
        it.backward([slope])
    assert it.apply(0, 0.0, None) == pytest.approx(whole, rel=1e-6)
    it.forward(pair, 0, 1)
    it.backward(slopes)
    it.zero()
    assert it.apply(0, 0.0, None) == 0.0
    with pytest.raises(ValueError, match="without a forward"):
        it.backward(slopes)


def test_a_norm_that_is_not_finite_leaves_the_weights(policy, video):
    it = policy("qwen3_vl")
    scores = it.forward([clips.sequence(clips.asked(video()), ANSWERS[0])], 0, 1)
    before = it.fingerprint()
    it.backward([[float("inf")] + [0.0] * (len(scores[0].logprobs) - 1)])
    assert not numpy.isfinite(it.apply(0, 1e-3, 1.0))
    assert it.fingerprint() == before


@pytest.mark.parametrize("training", [{}, {"lora": {"rank": 4}}], ids=["full", "lora"])
def test_a_failed_load_changes_nothing(training, policy, video, tmp_path):
    pair = [clips.sequence(clips.asked(video()), text) for text in ANSWERS]
    it, other = policy("qwen3_vl", training=training), policy("gemma3", training=training)
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    dpo.train(it, pair, references, 0)
    for name, one in (("own", it), ("other", other)):
        (tmp_path / name).mkdir()
        one.save(str(tmp_path / name), "trainer_state")
    shutil.copytree(tmp_path / "own", tmp_path / "cut")
    (tmp_path / "cut" / "optimizer.safetensors").unlink()
    before, next_step = it.fingerprint(), it.trainer.state()
    for folder in ("other", "cut", "nowhere"):
        with pytest.raises(Exception):
            it.load(str(tmp_path / folder), "trainer_state")
        assert it.fingerprint() == before
        state = it.trainer.state()
        assert state.keys() == next_step.keys() and all(torch.equal(state[key], next_step[key]) for key in state)


def test_an_adapter_of_another_scale_is_refused(policy, tmp_path):
    policy("qwen3_vl", training={"lora": {"rank": 4, "alpha": 8}}).save(str(tmp_path), "model")
    with pytest.raises(ValueError, match="alpha"):
        policy("qwen3_vl", training={"lora": {"rank": 4, "alpha": 16}}).load(str(tmp_path), "model")


def test_an_adapter_folder_is_trained_further(policy, video, tmp_path):
    pair = [clips.sequence(clips.asked(video()), text) for text in ANSWERS]
    it = policy("qwen3_vl", training={"lora": {"rank": 4}})
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    dpo.train(it, pair, references, 0)
    it.save(str(tmp_path), "model")
    other = Transformers({"model": str(tmp_path), "attention": "eager"})
    assert other.fingerprint() == it.fingerprint()
    assert dpo.train(other, pair, references, 0)[0] < 0.6931
    assert {weight.shape for _, weight in other.loaded.trained()} == {weight.shape for _, weight in it.loaded.trained()}
