"""Reasoning before answers: how templates open it, how it is separated, and what stands before answers that are scored."""

import types

import pytest
from isr_plugin import Continuation, GenerateRequest, Message, ReasoningFormat, Response, Sampling

import checkpoints
from isr_transformers.decode import Answer
from isr_transformers.prompts import Prompts

ASKED = [Message("user", ["Why?"])]
SAID = "<think>\nA bar falls.\n</think>\n\nIt falls."


@pytest.fixture
def prompts(policy):
    """Prompts of the tiny Qwen3-VL with a template of a reasoning model."""
    def of(template, reasoning="auto", special=()):
        loaded = policy("qwen3_vl").loaded
        loaded.processor.chat_template = checkpoints.REASONING[template]
        if special:
            loaded.processor.tokenizer.add_special_tokens({"additional_special_tokens": list(special)}, False)
        return Prompts(loaded, types.SimpleNamespace(get=lambda *_: None, put=lambda *_: None), reasoning)

    return of


def sampled(prompts, text, stops=(), longest=200):
    """The response of a model that writes a text token by token, and what it told meanwhile."""
    told = {"reasoning": "", "text": ""}
    request = GenerateRequest(ASKED, Sampling(max_new_tokens=longest, stop=list(stops)), 1, 0)
    request._tell = lambda progress: [told.update({key: told[key] + progress[key]}) for key in told if key in progress]
    answer = Answer(request, 0, longest, prompts.behind(prompts.render(ASKED)))
    for token in [*prompts.plain(text), prompts.end]:
        if answer.reason is None:
            answer.take(token, -0.5, prompts)
    return answer.response(prompts.text), told


@pytest.mark.parametrize("template, opened, empty", [
    ("opened", True, "\n</think>\n\n"), ("hybrid", False, "<think>\n\n</think>\n\n"), ("plain", True, "</think>\n"),
    ("none", None, "")])
def test_markers_are_found_in_the_template(prompts, template, opened, empty):
    found = prompts(template)
    expected = None if opened is None else ReasoningFormat(opened=opened)
    assert (found.reasoning, found.empty) == (expected, empty)
    assert (prompts(template, "off").reasoning, prompts(template, "off").empty) == (None, "")
    own = prompts(template, {"open": "[", "close": "]"})
    assert own.reasoning == ReasoningFormat("[", "]") and own.empty == ""


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
def test_a_response_keeps_its_tokens_and_its_answer_stands_alone(prompts, special):
    for template, text in [("opened", SAID.removeprefix("<think>\n")), ("hybrid", SAID), ("plain", SAID[7:])]:
        own = prompts(template, special=special)
        response, told = sampled(own, text)
        assert (response.text, response.reasoning.text) == ("It falls.", "A bar falls.")
        assert len(response.token_ids) == len(response.logprobs) == len(own.plain(text)) + 1
        n = response.reasoning.tokens
        assert own.text(response.token_ids[:n]).rstrip().endswith("</think>")
        assert "</think>" not in own.text(response.token_ids[:n - 1])
        assert told["reasoning"] == "A bar falls." and "It falls.".startswith(told["text"])
        # Cut within the reasoning, by its length or by a text that ends answers.
        for cut in (sampled(own, text, longest=8)[0], sampled(own, text, stops=["falls"])[0]):
            assert cut.text == "" and cut.reasoning.tokens == len(cut.token_ids)


def test_without_reasoning_a_response_is_as_it_was(prompts):
    response, told = sampled(prompts("hybrid"), "It falls.")
    assert response.reasoning is None and (response.text, told["text"]) == ("It falls.", "It falls.")
    assert sampled(prompts("none"), SAID)[0] == Response(SAID, *[it for it in (sampled(prompts("none"), SAID)[0].token_ids,
                                                         [-0.5] * (len(prompts("none").plain(SAID)) + 1))], "stop")


def test_an_answer_follows_an_empty_reasoning_that_an_opening_does_not_score(prompts):
    for template in ("opened", "hybrid", "plain"):
        own = prompts(template)
        answer = own.answer_ids(Continuation("answer", "It falls."))
        assert answer == [*own.plain(own.empty + "It falls."), own.end]
        opening = Continuation("opening", "t")
        n = own.unscored(opening)
        assert own.text(own.answer_ids(opening)[n:]).strip() == "t" and n == len(own.plain(own.empty))
    # An answer with a reasoning of its own, as datasets have them.
    for template in ("opened", "plain"):
        own = prompts(template)
        whole = own.text(own.answer_ids(Continuation("answer", SAID)))
        assert own.reasoning.split(whole) == ("A bar falls.", "It falls.") and whole.count("think>") == 1


def test_earlier_turns_have_no_reasoning(prompts):
    own = prompts("plain")
    turns = lambda said: [*ASKED, Message("assistant", [said]), Message("user", ["And then?"])]
    ids = lambda messages: own.render(messages).inputs["input_ids"].tolist()
    assert ids(turns(SAID)) == ids(turns("It falls.")) == ids(turns(SAID[8:]))
