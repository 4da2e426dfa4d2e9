//! Whole answers, and what is wrong with a request.

use isr_api::{Role, Sampling};
use isr_server::openai::ServeOptions;
use serde_json::{Value, json};

use crate::fake::{Bench, question};

fn bench() -> Bench {
    Bench::new(ServeOptions { max_tokens: 50, ..ServeOptions::default() })
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
        (with("max_tokens", json!(51)), "max_tokens", "max_tokens is 51; this server takes 1 to 50"),
        (
            with("max_completion_tokens", json!(0)),
            "max_completion_tokens",
            "max_completion_tokens is 0; this server takes 1 to 50",
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
        (with("tools", json!([])), "unknown field `tools`"),
        (with("messages", json!("hello")), "expected a sequence"),
        (message(json!({ "role": "user", "content": 5 })), "Content"),
        (message(json!({ "role": "user", "content": [{ "type": "audio" }] })), "Content"),
        (json!({ "model": "org/echo" }), "missing field `messages`"),
        (json!([]), "the body cannot be used"),
    ] {
        let (status, message) = bench.complete(&body).await.error();
        assert!(status == 400 && message.contains(part), "{status} {message}");
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
