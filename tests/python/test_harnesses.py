"""Evaluation harnesses drive `isr serve` as they are: lmms-eval itself, and the requests of VLMEvalKit's clients."""

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import ROOT

MODEL = ROOT / "tests/golden/tiny_llava"
CONTEXT = json.loads((MODEL / "config.json").read_text())["text_config"]["max_position_embeddings"]
FRAMES = 4
QUESTION = "What is shown?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("harnesses")


@pytest.fixture(scope="module")
def clips(folder):
    """Three clips of a second, and folders with their frames."""
    installed = ROOT / ".ffmpeg/ffmpeg"
    ffmpeg = os.environ.get("ISR_FFMPEG") or (installed if installed.exists() else shutil.which("ffmpeg"))
    paths = []
    for name in ("testsrc", "rgbtestsrc", "smptebars"):
        path, frames = folder / f"{name}.mp4", folder / name
        source = ["-f", "lavfi", "-i", f"{name}=size=64x64:rate={FRAMES}:duration=1", "-pix_fmt", "yuv420p"]
        subprocess.run([ffmpeg, "-v", "error", *source, path], check=True)
        frames.mkdir()
        subprocess.run([ffmpeg, "-v", "error", "-i", path, frames / "%02d.png"], check=True)
        assert len(list(frames.iterdir())) == FRAMES
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def address(isr, started, folder):
    command = [isr, "serve", "--model", str(MODEL), "--port", "0", "--frames", str(FRAMES)]
    # No answer is cut by more than the context.
    return started([*command, "--allow-dir", str(folder), "--max-tokens", "100000"], folder).address


@pytest.fixture(scope="module")
def generated(isr, clips):
    """What `isr generate` says of each clip, greedily."""

    def said(clip):
        command = [isr, "generate", "--model", str(MODEL), "--frames", str(FRAMES), "--video", clip, "--json"]
        more = ["--prompt", QUESTION, "--max-new-tokens", "12", "--temperature", "0"]
        output = subprocess.run([*command, *more], check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(output)["text"]

    return [said(clip) for clip in clips]


def ask(address, payload):
    """Posts as VLMEvalKit's `OpenAISDKWrapper.generate_inner` does; gives the reply and the keys that were ignored."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-123456"}
    data = json.dumps(payload).encode()
    request = urllib.request.Request(f"{address}/v1/chat/completions", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=300) as reply:
        assert 200 <= reply.status < 300
        return reply.read().decode(), reply.headers.get("x-isr-ignored")


def answer(reply):
    """The text as VLMEvalKit reads it."""
    return json.loads(reply)["choices"][0]["message"]["content"].strip()


def payload(content, **more):
    """A request of its `LMDeployAPI` (vlmeval/api/lmdeploy.py, openai_sdk.py, August 2026), with default settings."""
    messages = [{"role": "user", "content": content}]
    return {"model": MODEL.name, "messages": messages, "n": 1, "max_tokens": 16384, "temperature": 0.0} | more


def text(value=QUESTION):
    return {"type": "text", "text": value}


def part(kind, url, **more):
    return {"type": kind, kind: {"url": url} | more}


def data_url(mime, path):
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def frames(clip):
    return sorted(clip.with_suffix("").glob("*.png"))


def test_a_clip_of_vlmevalkit_is_answered_about_as_file_and_as_data(address, clips, generated):
    for clip, said in zip(clips, generated):
        for url in (data_url("video/mp4", clip), clip.as_uri()):
            reply, ignored = ask(address, payload([part("video_url", url), text()], max_tokens=12))
            assert answer(reply) == said.strip()
            assert ignored is None
    # A data set that sets the number of frames says so in the part (EgoExoBench).
    reply, ignored = ask(address, payload([part("video_url", clip.as_uri(), nframes=FRAMES), text()], max_tokens=12))
    assert (answer(reply), ignored) == (said.strip(), "messages[].content[].video_url.nframes")


def test_frames_of_vlmevalkit_are_one_video(address, clips):
    usage = []
    for clip in clips[:2]:
        video = [part("video_url", clip.as_uri()), text()]
        # `LMDeployAPI` names files with VLMEVAL_LOCAL_MEDIA=1, and else sends data; `OpenAIWrapper` has a `detail`.
        files = [part("image_url", path.as_uri()) for path in frames(clip)] + [text()]
        data = [part("image_url", data_url("image/jpeg", path), detail="low") for path in frames(clip)] + [text()]
        replies = [ask(address, payload(content, max_tokens=12)) for content in (video, files, data)]
        of_video, of_files, of_data = (json.loads(reply) for reply, _ in replies)
        assert of_files["choices"] == of_data["choices"]
        assert [ignored for _, ignored in replies] == [None, None, "messages[].content[].image_url.detail"]
        assert of_files["usage"]["prompt_tokens"] == of_video["usage"]["prompt_tokens"], "one video of as many frames"
        usage.append(of_files["usage"]["prompt_tokens"])
    apart = [it for path in frames(clips[0]) for it in (part("image_url", path.as_uri()), text("and"))]
    reply, _ = ask(address, payload([*apart, text()], max_tokens=12))
    assert json.loads(reply)["usage"]["prompt_tokens"] > usage[0]


def test_max_tokens_of_vlmevalkit_is_cut_to_what_the_context_leaves(address):
    """16,384 are four times this model's context. Most of it is taken by the question, so that the rest is soon written."""
    words = [(count, json.loads(ask(address, payload([text("word " * count)], max_tokens=1))[0])) for count in (100, 200)]
    (few, first), (many, second) = ((count, reply["usage"]["prompt_tokens"]) for count, reply in words)
    fitting = few + (CONTEXT - 100 - first) * (many - few) // (second - first)
    reply = json.loads(ask(address, payload([text("word " * fitting)]))[0])
    usage, reason = reply["usage"], reply["choices"][0]["finish_reason"]
    assert CONTEXT - 110 < usage["prompt_tokens"] < CONTEXT
    assert usage["total_tokens"] <= CONTEXT and (reason == "length") == (usage["total_tokens"] == CONTEXT)


def test_a_stream_of_vlmevalkit_is_read_as_it_reads_it(address, clips, generated):
    """`OpenAIWrapper` with `stream`: no `n`, 2048 tokens, lines that begin with `data:` until `[DONE]`."""
    body = payload([part("video_url", clips[0].as_uri()), text()], max_tokens=12, stream=True)
    del body["n"]
    lines = [line.strip() for line in ask(address, body)[0].splitlines() if line.startswith("data:")]
    assert lines[-1].removeprefix("data:").strip() == "[DONE]"
    chunks = [json.loads(line.removeprefix("data:")) for line in lines[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert said == generated[0]


TASK = """
task: isr_clips
dataset_path: json
dataset_kwargs: {data_files: {test: DOCS}}
test_split: test
output_type: generate_until
doc_to_visual: !function clips.visual
doc_to_text: question
doc_to_target: answer
generation_kwargs: {max_new_tokens: 12, temperature: 0}
process_results: !function clips.results
metric_list: [{metric: same_answer, aggregation: mean, higher_is_better: true}]
"""

# A file, which lmms-eval passes by its URL, or frames, which it sends as PNG images.
FUNCTIONS = """
from PIL import Image

def visual(doc):
    return [Image.open(path).convert("RGB") for path in doc["frames"]] or [doc["video"]]

def results(doc, results):
    return {"same_answer": float(results[0] == doc["answer"])}
"""


def run_lmms_eval(folder, address, docs, model_args):
    """Runs a task of ours with its command; gives its results, and its log of samples by document."""
    tasks, output = folder / "tasks", folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    tasks.mkdir(exist_ok=True)
    (tasks / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tasks / "clips.yaml").write_text(TASK.replace("DOCS", str(tasks / "docs.jsonl")))
    (tasks / "clips.py").write_text(FUNCTIONS)
    arguments = f"model={MODEL.name},base_url={address}/v1,api_key=none,timeout=120,max_retries=1,{model_args}"
    command = [sys.executable, "-m", "lmms_eval", "--model", "openai", "--model_args", arguments, "--tasks", "isr_clips"]
    more = ["--include_path", tasks, "--output_path", output, "--log_samples", "--batch_size", "1"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "huggingface")}
    subprocess.run([*command, *more], cwd=folder, env=os.environ | offline, check=True, timeout=900)
    [results] = output.rglob("*_results.json")
    [samples] = output.rglob("*_samples_isr_clips.jsonl")
    samples = [json.loads(line) for line in samples.read_text().splitlines()]
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    return json.loads(results.read_text())["results"]["isr_clips"], samples


def test_lmms_eval_measures_a_served_checkpoint(folder, address, clips, generated):
    """Its answers are those of `isr generate` for files, and those of a plain request for frames as images."""
    docs = []
    for clip, said in zip(clips, generated):
        docs.append({"video": str(clip), "frames": [], "question": QUESTION, "answer": said})
    for clip in clips:
        content = [part("image_url", data_url("image/png", path)) for path in frames(clip)] + [text()]
        reply, _ = ask(address, payload(content, max_tokens=12))
        said = json.loads(reply)["choices"][0]["message"]["content"]
        paths = [str(path) for path in frames(clip)]
        docs.append({"video": str(clip), "frames": paths, "question": QUESTION, "answer": said})
    # Its videos as URLs, the number of frames in `media_io_kwargs`, `enable_thinking` for the template.
    arguments = f"pass_video_url=True,max_frames_num={FRAMES},enable_thinking_kwarg=false"
    results, samples = run_lmms_eval(folder, address, docs, arguments)
    assert [sample["filtered_resps"] for sample in samples] == [doc["answer"] for doc in docs]
    assert results["same_answer,none"] == 1.0
