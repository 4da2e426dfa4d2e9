//! Whole answers, and what is wrong with a request.

use isr_api::{Role, Sampling};
use isr_server::openai::ServeOptions;
use serde_json::{Value, json};

use crate::fake::{Bench, question};

fn bench() -> Bench {
    Bench::new(ServeOptions { max_tokens: 50, frames: Some(8), ..ServeOptions::default() })
}

#[tokio::test]
async fn a_completion_has_all_answers_their_cost_and_why_they_ended() {
    let bench = bench();
    let body = json!({
        "model": "org/echo",
        "messages": [
            { "role": "developer", "content": "be kind." },
            { "role": "user", "content": "what is it?", "name": "ann" },
            { "role": "assistant", "content": [{ "type": "text", "text": "a bar." }] },
            { "role": "user", "content": "its colour?" },
        ],
        "n": 2, "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "seed": -1, "stop": "\n",
        "logprobs": true, "user": "ann", "frequency_penalty": 0, "response_format": { "type": "text" },
    });
    let reply = bench.complete(&body).await;
    let object = reply.json();
    assert!(object["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&object["object"], &object["model"]), (&"chat.completion".into(), &"org/echo".into()));
    assert!(object["created"].as_u64().unwrap() > 1_700_000_000);
    let choices = object["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    let transcript = "be kind.\nwhat is it?\na bar.\nits colour?";
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["message"]["content"], format!("{index}: {transcript}"));
        assert_eq!(choice["finish_reason"], "length");
        let logprobs = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!((&logprobs[1]["token"], &logprobs[1]["logprob"]), (&"token_id:8".into(), &json!(-1.0)));
    }
    assert_eq!(object["usage"], json!({ "prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15 }));

    let asked = bench.echo.asked.lock().unwrap();
    let (temperature, stop) = (0.5, vec!["\n".to_owned()]);
    let sampling = Sampling { temperature, top_p: 0.9, top_k: 4, max_new_tokens: 9, stop };
    assert_eq!((asked[0].n, asked[0].seed, &asked[0].sampling), (2, u64::MAX, &sampling));
    let roles: Vec<_> = asked[0].prompt.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
}

#[tokio::test]
async fn what_is_left_out_has_openais_defaults_and_another_seed_each_time() {
    let bench = bench();
    for _ in 0..2 {
        let reply = bench.ask(&"hello".into()).await;
        assert_eq!(reply.answer(), "0: be brief.\nhello", "the server's own instructions");
        assert!(reply.json()["choices"][0]["logprobs"].is_null());
    }
    let asked = bench.echo.asked.lock().unwrap();
    assert_eq!(asked[0].sampling, Sampling { max_new_tokens: 50, ..Sampling::default() });
    assert_ne!(asked[0].seed, asked[1].seed);
}

#[tokio::test]
async fn a_bad_request_is_named_with_its_key() {
    let bench = bench();
    let with = |key: &str, value: Value| {
        let mut body = question(&"hello".into());
        body[key] = value;
        body
    };
    let message = |message: Value| with("messages", json!([message]));
    let cases = [
        (with("temperature", json!(-1)), "temperature", "temperature is -1; it must be 0 or more"),
        (with("top_p", json!(0)), "top_p", "top_p is 0; it must be in (0, 1]"),
        (
            with("stop", json!(["a", ""])),
            "stop",
            "stop has an empty string, which would end every answer at once",
        ),
        (with("max_tokens", json!(-2)), "max_tokens", "max_tokens is -2; it must be at least 1"),
        (
            with("max_completion_tokens", json!(0)),
            "max_completion_tokens",
            "max_completion_tokens is 0; it must be at least 1",
        ),
        (with("n", json!(17)), "n", "n is 17; it must be from 1 to 16"),
        (with("messages", json!([])), "messages", "messages is empty; there is nothing to answer"),
        (with("top_logprobs", json!(3)), "top_logprobs", "this server has no top_logprobs; leave it out"),
        (
            with("presence_penalty", json!(0.5)),
            "presence_penalty",
            "this server has no presence_penalty; leave it out",
        ),
        (
            with("response_format", json!({ "type": "json_object" })),
            "response_format",
            "this server has no response_format; leave it out",
        ),
        (
            message(json!({ "role": "tool", "content": "x" })),
            "messages[0].role",
            "messages[0].role is `tool`; it must be system, developer, user or assistant",
        ),
        (
            with("messages", json!([{ "role": "user", "content": "much too long" }])),
            "messages",
            "the prompt has 9 tokens, but the model's context holds 8",
        ),
    ];
    for (body, param, message) in cases {
        let reply = bench.complete(&body).await;
        assert_eq!(reply.error(), (400, message.to_owned()));
        assert_eq!(reply.json()["error"]["param"], param);
    }
    for (body, part) in [
        (with("tools", json!([{ "type": "function" }])), "this server has no tools; leave it out"),
        (with("temprature", json!(0.5)), "this server has no temprature; leave it out"),
        (with("stream_options", json!({ "chunks": 3 })), "this server has no stream_options.chunks"),
        (
            with("chat_template_kwargs", json!({ "thinking_budget": 9 })),
            "this server has no chat_template_kwargs.thinking_budget; leave it out",
        ),
        (with("mm_processor_kwargs", json!({ "max_pixels": 9 })), "no mm_processor_kwargs; leave it out"),
        (
            with("media_io_kwargs", json!({ "video": { "num_frames": 10 } })),
            "media_io_kwargs.video.num_frames is 10; this server takes 8 frames of a video (--frames)",
        ),
        (
            with("media_io_kwargs", json!({ "video": { "fps": 2 } })),
            "no media_io_kwargs.video.fps; leave it",
        ),
        (with("temperature", json!("hot")), "temperature: invalid type: string"),
        (with("messages", json!("hello")), "messages: invalid type"),
        (message(json!("hello")), "messages[0] must be an object"),
        (message(json!({ "content": "hello" })), "messages[0].role: it is missing"),
        (message(json!({ "role": "user", "content": null })), "messages[0].content: it is missing"),
        (message(json!({ "role": "user", "content": 5 })), "messages[0].content: it must be a string or"),
        (
            message(json!({ "role": "user", "content": [{ "type": "audio" }] })),
            "messages[0].content[0]: its type is `audio`; it must be text, image_url or video_url",
        ),
        (
            message(json!({ "role": "user", "content": [{ "type": "image_url" }] })),
            "messages[0].content[0]: a part of type image_url needs `image_url`",
        ),
        (
            message(
                json!({ "role": "user", "content": [{ "type": "text", "text": "hello", "bold": true }] }),
            ),
            "this server has no messages[0].content[0].bold; leave it out",
        ),
        (
            message(json!({ "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "data:,", "max_pixels": 9 } },
            ] })),
            "this server has no messages[0].content[0].image_url.max_pixels; leave it out",
        ),
        (
            message(json!({ "role": "user", "content": [
                { "type": "video_url", "video_url": { "url": "data:,", "nframes": 16 } },
            ] })),
            "messages[0].content[0].video_url.nframes is 16; this server takes 8 frames of a video (--frames)",
        ),
        (
            message(json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "1" }] })),
            "this server has no messages[0].tool_calls; leave it out",
        ),
        (json!({ "model": "org/echo" }), "messages: it is missing"),
        (json!([]), "the body cannot be used"),
    ] {
        let (status, message) = bench.complete(&body).await.error();
        assert!(status == 400 && message.contains(part), "{status} {message}");
    }
}

/// What OpenAI's, vLLM's and LangChain's clients send where their users asked for nothing, and the name of each in the header
/// of what was ignored.
#[tokio::test]
async fn keys_that_ask_for_nothing_are_taken() {
    let bench = bench();
    let plain = question(&"hello".into());
    let mut neutral = json!({
        "max_tokens": 2048, "top_k": -1, "repetition_penalty": 1.0, "length_penalty": 1, "min_p": 0,
        "chat_template_kwargs": { "enable_thinking": false }, "tools": null, "tool_choice": "none",
        "parallel_tool_calls": true, "functions": [], "logit_bias": {}, "reasoning_effort": "low",
        "logprobs": null, "top_logprobs": 0, "n": null, "seed": null, "stop": null, "stream": false,
        "stream_options": null, "response_format": null, "user": "", "store": false, "metadata": { "a": "b" },
        "service_tier": "auto", "modalities": ["text"], "audio": null, "prediction": null,
        "best_of": 1, "use_beam_search": false, "ignore_eos": false, "skip_special_tokens": true,
        "frequency_penalty": 0.0, "presence_penalty": null, "temperature": null, "top_p": null,
        "stop_token_ids": [], "guided_json": null, "prompt_logprobs": null, "verbosity": "medium",
    });
    neutral["enable_thinking"] = true.into();
    neutral["media_io_kwargs"] = json!({ "video": { "num_frames": 8 } });
    neutral["mm_processor_kwargs"] = Value::Null;
    let mut all = plain.clone();
    for (key, value) in neutral.as_object().unwrap() {
        all[key] = value.clone();
        let mut one = plain.clone();
        one[key] = value.clone();
        let reply = bench.complete(&one).await;
        assert_eq!(reply.status, 200, "{key}: {}", reply.text);
        let name = match key.as_str() {
            "chat_template_kwargs" => Some("chat_template_kwargs.enable_thinking".to_owned()),
            "media_io_kwargs" => Some("media_io_kwargs.video.num_frames".to_owned()),
            _ if USED.contains(&key.as_str()) => None,
            _ => Some(key.clone()),
        };
        assert_eq!(reply.ignored(), name, "{key}");
    }
    let reply = bench.complete(&all).await;
    reply.answer();
    assert_eq!(
        reply.ignored().unwrap().split(", ").count(),
        neutral.as_object().unwrap().len() - USED.len()
    );
    let asked = bench.echo.asked.lock().unwrap();
    let usual = Sampling { max_new_tokens: 50, ..Sampling::default() };
    assert!(asked.iter().all(|request| request.sampling == usual && request.n == 1));
}

/// Of the neutral keys those that the server has.
const USED: [&str; 10] = [
    "max_tokens",
    "top_k",
    "logprobs",
    "n",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
];

#[tokio::test]
async fn no_top_k_is_zero_or_less() {
    let bench = bench();
    for top_k in [json!(null), json!(0), json!(-1), json!(-7), json!(3)] {
        let mut body = question(&"hello".into());
        body["top_k"] = top_k;
        assert_eq!(bench.complete(&body).await.ignored(), None);
    }
    let asked = bench.echo.asked.lock().unwrap();
    let taken: Vec<usize> = asked.iter().map(|request| request.sampling.top_k).collect();
    assert_eq!(taken, [0, 0, 0, 0, 3]);
}

#[tokio::test]
async fn what_is_ignored_of_messages_is_named_also_before_a_stream_and_not_in_plain_requests() {
    let bench = bench();
    let mut body = question(&"hello".into());
    assert_eq!(bench.complete(&body).await.ignored(), None);
    body["messages"] = json!([
        { "role": "user", "content": [{ "type": "text", "text": "hi", "cache_control": { "type": "ephemeral" } }] },
        { "role": "assistant", "content": "hello", "refusal": null },
        { "role": "assistant", "content": null, "refusal": null, "annotations": [] },
        { "role": "user", "name": "ann", "content": [
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA", "detail": "low" } },
        ] },
    ]);
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true, "include_obfuscation": false });
    let reply = bench.complete(&body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let names = "stream_options.include_obfuscation, messages[].content[].cache_control, messages[].refusal, \
                 messages[].annotations, messages[].content[].image_url.detail, messages[].name";
    assert_eq!(reply.ignored().unwrap(), names);
}

#[tokio::test]
async fn an_answer_is_taken_back_as_a_turn() {
    let bench = bench();
    let mut body = question(&"hello".into());
    let said = bench.complete(&body).await.json()["choices"][0]["message"].clone();
    // What the client adds where a user dumps the message instead.
    let mut dumped = said.clone();
    for key in ["annotations", "audio", "function_call", "tool_calls"] {
        dumped[key] = Value::Null;
    }
    let silent = json!({ "role": "assistant", "content": null, "refusal": null, "tool_calls": [] });
    for (turn, heard) in [(said, "0: be brief.\nhello\n"), (dumped, "0: be brief.\nhello\n"), (silent, "")]
    {
        body["messages"] = json!([
            { "role": "user", "content": "hello" }, turn, { "role": "user", "content": "and?" },
        ]);
        let answer = bench.complete(&body).await.answer();
        assert!(answer.contains(&format!("hello\n{heard}")) && answer.ends_with("and?"), "{answer}");
    }
}

#[tokio::test]
async fn a_failure_is_the_servers_and_does_not_show_its_inside() {
    let reply = bench().ask(&"break".into()).await;
    assert_eq!(reply.error(), (500, "the model failed; the server's log says how".to_owned()));
}

#[tokio::test]
async fn models_are_listed_and_others_are_not_found() {
    let bench = bench();
    let list = bench.get("/v1/models").await.json();
    assert_eq!(list["data"][0]["id"], "org/echo");
    assert_eq!(bench.get("/v1/models/org/echo").await.json(), list["data"][0]);
    let other = bench.get("/v1/models/gpt").await;
    assert_eq!(other.error(), (404, "there is no model `gpt` here; this server has `org/echo`".to_owned()));
    let body = json!({ "model": "gpt", "messages": [{ "role": "user", "content": "hello" }] });
    let reply = bench.complete(&body).await;
    assert_eq!((reply.error().0, &reply.json()["error"]["code"]), (404, &"model_not_found".into()));
    assert_eq!(bench.get("/v1/embeddings").await.error().0, 404);
    assert_eq!(bench.get("/v1/chat/completions").await.error().0, 405);
}
