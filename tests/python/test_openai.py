"""OpenAI's own client drives `isr serve`."""

import os

import openai
import pytest
from conftest import ROOT

TOKEN = "for-this-test"


@pytest.fixture(scope="module")
def address(isr, started, tmp_path_factory):
    model = ROOT / "tests/golden/tiny_llava"
    command = [isr, "serve", "--model", str(model), "--port", "0", "--token-env", "ISR_TEST_TOKEN"]
    env = os.environ | {"ISR_TEST_TOKEN": TOKEN}
    return started([*command, "--max-tokens", "64"], tmp_path_factory.mktemp("serve"), env).address


@pytest.fixture(scope="module")
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key=TOKEN, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def question(picture):
    image = {"type": "image_url", "image_url": {"url": picture}}
    content = [image, {"type": "text", "text": "Which colour is above?"}]
    return {"model": "tiny_llava", "messages": [{"role": "user", "content": content}], "max_tokens": 16, "seed": 7}


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == ["tiny_llava"]
    assert client.models.retrieve("tiny_llava").object == "model"


def test_a_picture_is_answered_about_and_a_seed_repeats_the_answer(client, question):
    first, again = (client.chat.completions.create(**question) for _ in range(2))
    choice = first.choices[0]
    assert choice.message.role == "assistant" and choice.message.content == again.choices[0].message.content
    assert choice.finish_reason in ("stop", "length")
    assert 0 < first.usage.completion_tokens <= 16
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    text = client.chat.completions.create(**question | {"messages": [{"role": "user", "content": "Which colour?"}]})
    assert text.usage.prompt_tokens < first.usage.prompt_tokens, "the picture takes places in the prompt"


def test_several_answers_differ_and_have_log_probs(client, question):
    reply = client.chat.completions.create(**question, n=3, logprobs=True)
    assert len({choice.message.content for choice in reply.choices}) > 1
    for choice in reply.choices:
        assert choice.logprobs.content and all(token.logprob <= 0 for token in choice.logprobs.content)
    tokens = sum(len(choice.logprobs.content) for choice in reply.choices)
    assert reply.usage.completion_tokens == tokens


def test_the_pieces_of_a_stream_are_the_answer(client, question):
    whole = client.chat.completions.create(**question)
    chunks = list(client.chat.completions.create(**question, stream=True, stream_options={"include_usage": True}))
    *chunks, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage == whole.usage


def test_a_conversation_of_two_turns_sends_the_first_reply_back(client, question):
    first = client.chat.completions.create(**question).choices[0].message
    follow_up = {"role": "user", "content": "And below?"}
    # The client's object as it came, dumped with its nulls, the answer alone, and a reply without text.
    alone = {"role": "assistant", "content": first.content}
    silent = {"role": "assistant", "content": None, "refusal": None}
    answers = []
    for turn in (first, first.model_dump(), alone, silent):
        messages = [*question["messages"], turn, follow_up]
        answers.append(client.chat.completions.create(**question | {"messages": messages}))
    assert answers[0].choices[0].message == answers[1].choices[0].message == answers[2].choices[0].message
    prompts = [answer.usage.prompt_tokens for answer in answers]
    assert prompts[0] == prompts[1] == prompts[2] > prompts[3], "the first reply is part of the second prompt"


def test_keys_of_habit_change_nothing(client, question):
    body = {"top_k": -1, "repetition_penalty": 1.0, "chat_template_kwargs": {"enable_thinking": False}, "min_p": 0.0}
    habits = {
        "frequency_penalty": 0, "logit_bias": {}, "metadata": {}, "parallel_tool_calls": False, "presence_penalty": None,
        "reasoning_effort": "low", "response_format": {"type": "text"}, "store": False, "tools": None, "user": "ann",
    }
    plain = client.chat.completions.create(**question)
    raw = client.chat.completions.with_raw_response.create(**question, **habits, extra_body=body)
    reply = raw.parse()
    assert reply.choices[0].message.content == plain.choices[0].message.content
    thinking = "chat_template_kwargs.enable_thinking"
    ignored = raw.headers["x-isr-ignored"].split(", ")
    assert set(ignored) == {*habits, "repetition_penalty", "min_p", thinking} and len(set(ignored)) == len(ignored)
    longest = client.chat.completions.create(**question | {"max_tokens": 100_000})
    assert longest.usage.completion_tokens <= 64, "cut to --max-tokens"


def test_pictures_that_follow_each_other_are_a_video(client, question):
    [message] = question["messages"]
    picture, text = message["content"]
    frames = question | {"messages": [{"role": "user", "content": [picture, picture, text]}]}
    apart = question | {"messages": [{"role": "user", "content": [picture, text, picture]}]}
    replies = [client.chat.completions.create(**asked).usage.prompt_tokens for asked in (frames, apart)]
    assert replies[0] < replies[1], "one video has one line of its own"


def test_a_webp_picture_is_read(client, question):
    # One white pixel: the lossless format's smallest file.
    webp = "data:image/webp;base64,UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="
    [message] = question["messages"]
    content = [{"type": "image_url", "image_url": {"url": webp}}, message["content"][1]]
    reply = client.chat.completions.create(**question | {"messages": [{"role": "user", "content": content}]})
    assert reply.usage.completion_tokens > 0


def test_errors_are_the_clients_own(client, address, question):
    with pytest.raises(openai.NotFoundError, match="no model `gpt-4o` here"):
        client.chat.completions.create(**question | {"model": "gpt-4o"})
    with pytest.raises(openai.BadRequestError, match="temperature is -1") as error:
        client.chat.completions.create(**question, temperature=-1)
    assert error.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="max_tokens is 0; it must be at least 1"):
        client.chat.completions.create(**question | {"max_tokens": 0}, stream=True)
    with pytest.raises(openai.BadRequestError, match="this server has no tools"):
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        client.chat.completions.create(**question, tools=[tool])
    with pytest.raises(openai.BadRequestError, match="takes 8 frames of a video") as error:
        options = {"video": {"num_frames": 32}}
        client.chat.completions.create(**question, extra_body={"media_io_kwargs": options})
    assert error.value.param == "media_io_kwargs.video.num_frames"
    with pytest.raises(openai.BadRequestError, match="fetches nothing"):
        part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        client.chat.completions.create(**question | {"messages": [{"role": "user", "content": [part]}]})
    with pytest.raises(openai.AuthenticationError, match="send the token"):
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0).models.list()
