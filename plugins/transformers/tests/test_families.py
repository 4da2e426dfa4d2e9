"""What holds for each family: sampling, scoring, training, checkpoints."""

import json
import os

import numpy
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

import checkpoints
import clips
import dpo

FAMILIES = ["qwen2_5_vl", "qwen3_vl", "llava", "video_llava", "llava_next_video", *checkpoints.FAMILIES]
LORA = {"lora": {"rank": 4, "alpha": 8}}
ANSWERS = ["The dog runs.", "A red cup on the table, then nothing."]
each = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def pair(video):
    prompt = clips.asked(video())
    return [clips.sequence(prompt, text) for text in ANSWERS]


@each
def test_answers_depend_on_the_seed_alone(family, policy, video):
    it, prompt = policy(family), clips.asked(video())
    alone = it.generate(clips.generate(prompt, n=3, seed=5))
    others = [clips.generate(clips.asked(video(seed)), n=2, seed=seed) for seed in (1, 2)]
    text = clips.generate(clips.asked(None, "Why?"), seed=9)
    batch = it.generate_batch([others[0], text, clips.generate(prompt, n=3, seed=5), others[1]])
    assert batch[2] == alone
    assert [len(answers) for answers in batch] == [2, 2, 3, 2]
    assert len({tuple(answer.token_ids) for answer in alone}) > 1
    assert it.generate(clips.generate(prompt, n=3, seed=6)) != alone


@each
def test_answers_of_several_requests_can_be_sampled_together(family, policy, video):
    it = policy(family)
    requests = [clips.generate(clips.asked(video(seed), "Why? " * seed), n=2, seed=seed) for seed in (1, 2, 3)]
    requests.append(clips.generate(clips.asked(None), seed=4))
    alone = it.generate_batch(requests)
    it.decoder.joins = True  # as on a GPU
    joined = it.generate_batch(requests)
    for own, other in zip(alone, joined):
        assert [answer.token_ids for answer in own] == [answer.token_ids for answer in other]
        numpy.testing.assert_allclose(own[0].logprobs, other[0].logprobs, atol=1e-4)


@each
def test_scores_of_sampled_tokens_are_the_recorded_ones(family, policy, video):
    it = policy(family)
    # A clip that is longer in time than in space, where transformers' positions of Qwen2-VL differ between both.
    prompt = clips.asked(video(frames=8, height=28, width=28, fps=0.5))
    answers = it.generate(clips.generate(prompt, n=2, temperature=0.7, top_k=50, top_p=0.9))
    scores = it.score(clips.score(prompt, *[answer.token_ids for answer in answers]))
    trained = it.forward([clips.sequence(prompt, answer.token_ids) for answer in answers], 0, 1)
    for answer, score, forward in zip(answers, scores, trained):
        assert score.token_ids == forward.token_ids == answer.token_ids
        numpy.testing.assert_allclose(score.logprobs, answer.logprobs, atol=1e-4)
        numpy.testing.assert_allclose(forward.logprobs, answer.logprobs, atol=1e-4)


@each
def test_gradients_are_those_of_the_loss_in_transformers(family, folder, policy, pair):
    it = policy(family)
    references = [sum(score.logprobs) - 0.3 for score in it.forward(pair, 0, 1)]
    ids = [it.prompts.answer_ids(sequence.continuation) for sequence in pair]
    loss, gradients = dpo.evaluated(it.forward(pair, 0, 1), references)
    it.backward(gradients)
    direct = AutoModelForImageTextToText.from_pretrained(folder(family), dtype=torch.float32, attn_implementation="eager")
    processor = AutoProcessor.from_pretrained(folder(family))
    logps = [direct_logprobs(direct, processor, pair[0].prompt, own) for own in ids]
    expected = dpo.loss_of(*logps, references)
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    wanted = dict(direct.named_parameters())
    trained = it.loaded.trained()
    assert trained and not any("vision" in name or "visual" in name or "projector" in name for name, _ in trained)
    for name, weight in trained:
        if weight.grad is None:
            assert wanted[name].grad is None, name
        else:
            torch.testing.assert_close(weight.grad, wanted[name].grad, rtol=1e-3, atol=1e-5, msg=lambda m: f"{name}: {m}")


def direct_logprobs(model, processor, prompt, ids):
    """Log-probs of an answer by transformers alone, with the clip's times told as its rate and the frames' indices."""
    clip, text = prompt[0].parts
    frames = torch.tensor(clip.pixels()).permute(0, 3, 1, 2)
    takes_videos = getattr(processor, "video_processor", None) is not None
    media = [{"type": "video"}] if takes_videos else [{"type": "image"}] * len(frames)
    messages = [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    settings = {"return_tensors": "pt"}
    if processor.tokenizer.bos_token and rendered.startswith(processor.tokenizer.bos_token):
        settings["add_special_tokens"] = False
    if takes_videos:
        times = {"total_num_frames": 4, "fps": 2.0, "frames_indices": [0, 1, 2, 3], "duration": 2.0}
        inputs = processor(text=[rendered], videos=[frames], do_sample_frames=False, video_metadata=[times], **settings)
    else:
        inputs = processor(text=[rendered], images=[list(frames)], **settings)
    count = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = torch.nn.functional.pad(inputs[name], (0, len(ids)))
    logits = model(**inputs).logits[0, count - 1:-1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


@each
@pytest.mark.parametrize("training", [{}, LORA], ids=["full", "lora"])
def test_training_lowers_the_loss_and_is_continued_bit_for_bit(family, training, policy, pair, tmp_path):
    it = policy(family, training=training)
    before = it.fingerprint()
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    losses = [dpo.train(it, pair, references, step)[0] for step in range(3)]
    assert losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses[0] > losses[1] > losses[2]
    trained = it.fingerprint()
    assert trained != before
    for what in ("model", "trainer_state"):
        (tmp_path / what).mkdir()
        it.save(str(tmp_path / what), what)
    assert it.fingerprint() == trained

    other = policy(family, training=training)
    assert other.fingerprint() == before
    other.load(str(tmp_path / "model"), "model")
    assert other.fingerprint() == trained
    resumed = policy(family, training=training)
    resumed.load(str(tmp_path / "trainer_state"), "trainer_state")
    assert resumed.fingerprint() == trained
    steps = [dpo.train(one, pair, references, 3) for one in (it, resumed)]
    assert steps[0] == steps[1]
    assert it.fingerprint() == resumed.fingerprint() != trained
    # What a checkpoint holds is the model's, not the optimiser's: a step with new moments is another one.
    dpo.train(other, pair, references, 0)
    assert other.fingerprint() != it.fingerprint()


@each
def test_a_saved_model_is_transformers_own(family, policy, pair, tmp_path):
    it = policy(family)
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    dpo.train(it, pair, references, 0)
    it.save(str(tmp_path), "model")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    own = it.loaded.net.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in again.state_dict().items())
    assert AutoProcessor.from_pretrained(tmp_path).chat_template == it.prompts.processor.chat_template


@each
def test_a_saved_adapter_is_pefts_own(family, folder, policy, pair, tmp_path):
    it = policy(family, training=LORA)
    references = [sum(score.logprobs) for score in it.forward(pair, 0, 1)]
    dpo.train(it, pair, references, 0)
    it.save(str(tmp_path), "model")
    assert sorted(os.listdir(tmp_path)) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)
    assert not any("vision" in name or "visual" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    base = AutoModelForImageTextToText.from_pretrained(folder(family), dtype=torch.float32, attn_implementation="eager")
    adapted = PeftModel.from_pretrained(base, tmp_path)
    ids = it.prompts.answer_ids(pair[0].continuation)
    with torch.no_grad():
        expected = direct_logprobs(adapted.base_model.model, it.loaded.processor, pair[0].prompt, ids)
    numpy.testing.assert_allclose(it.forward(pair[:1], 1, 1)[0].logprobs, expected, atol=1e-4)
