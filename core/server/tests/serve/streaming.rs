//! Answers while they are written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use isr_server::openai::ServeOptions;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::fake::{Bench, Reply, post, question};

fn body(text: &str) -> Value {
    let mut body = question(&text.into());
    body["stream"] = true.into();
    body
}

/// The data of all events but the last, and whether that is `[DONE]`.
fn events(reply: &Reply) -> (Vec<Value>, bool) {
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let mut data: Vec<&str> = reply.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let done = data.pop_if(|data| *data == "[DONE]").is_some();
    (data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect(), done)
}

#[tokio::test]
async fn the_pieces_are_the_answers_and_the_counts_come_last() {
    let bench = Bench::new(ServeOptions::default());
    let mut body = body("hello there");
    body["n"] = 2.into();
    body["stream_options"] = json!({ "include_usage": true });
    let (chunks, done) = events(&bench.complete(&body).await);
    assert!(done);
    let mut texts = [String::new(), String::new()];
    let mut reasons = [const { Vec::new() }; 2];
    let (counts, chunks) = chunks.split_last().unwrap();
    for chunk in chunks {
        assert_eq!((&chunk["object"], &chunk["id"]), (&"chat.completion.chunk".into(), &counts["id"]));
        let choice = &chunk["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        reasons[index].push(choice["finish_reason"].clone());
    }
    assert_eq!(texts, ["0: be brief.\nhello there", "1: be brief.\nhello there"]);
    for reasons in reasons {
        assert_eq!(reasons.iter().filter(|reason| **reason == "length").count(), 1);
        assert_eq!(reasons.last().unwrap(), "length");
        assert!(reasons.len() >= 4, "opening, two pieces, closing");
    }
    assert_eq!(counts["choices"], json!([]));
    assert_eq!(counts["usage"], json!({ "prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10 }));

    let (chunks, done) = events(&bench.complete(&self::body("hello there")).await);
    assert!(
        done && chunks.iter().all(|chunk| chunk["choices"][0].is_object()),
        "no counts unless asked for"
    );
}

#[tokio::test]
async fn a_prompt_that_is_refused_has_its_status_and_no_stream() {
    let reply = Bench::new(ServeOptions::default()).complete(&body("too long")).await;
    assert_eq!(reply.error().0, 400);
    let mut both = body("hello");
    both["logprobs"] = true.into();
    let reply = Bench::new(ServeOptions::default()).complete(&both).await;
    assert_eq!(reply.error(), (400, "logprobs are not streamed; leave out one of both".to_owned()));
}

#[tokio::test]
async fn a_failure_on_the_way_ends_the_stream_with_an_error() {
    let reply = Bench::new(ServeOptions::default()).complete(&body("break")).await;
    let (chunks, done) = events(&reply);
    let last = chunks.last().unwrap();
    assert_eq!(last["error"]["message"], "the model failed; the server's log says how");
    assert!(!done && chunks.len() == 3, "opening, a piece, the error: {chunks:?}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along_and_frees_its_place() {
    let bench = Bench::new(ServeOptions { queue: 1, ..ServeOptions::default() });
    let response = bench.router.clone().oneshot(post(&body("hang"))).await.unwrap();
    assert_eq!(bench.complete(&body("hello")).await.error().0, 429);
    drop(response);
    assert_eq!(bench.echo.abandoned.load(Ordering::SeqCst), 1);
    assert_eq!(bench.ask(&"hello".into()).await.answer(), "0: be brief.\nhello");
    // The same where the answer is not streamed.
    let waiting = bench.router.clone().oneshot(post(&question(&"hang".into())));
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
    assert_eq!(bench.echo.abandoned.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn pieces_come_before_the_answer_is_complete() {
    use futures::StreamExt;
    let bench = Bench::new(ServeOptions::default());
    let response = bench.router.clone().oneshot(post(&body("hang"))).await.unwrap();
    let mut stream = Body::into_data_stream(response.into_body());
    let mut text = String::new();
    while !text.contains("0: be") {
        let piece = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&piece.unwrap().unwrap()));
    }
}

/// Reasoning comes beside the answer, under the key of DeepSeek's and vLLM's servers.
#[tokio::test]
async fn reasoning_is_told_beside_the_answer() {
    let bench = Bench::new(ServeOptions::default());
    let (mut whole, mut streamed) = (question(&"reason about it".into()), body("reason about it"));
    streamed["stream_options"] = json!({ "include_usage": true });
    whole["n"] = 1.into();
    let reply: Value = serde_json::from_str(&bench.complete(&whole).await.text).unwrap();
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "let me see");
    assert_eq!(message["content"], "0: be brief.\nreason about it");
    let usage = json!({
        "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
        "completion_tokens_details": { "reasoning_tokens": 2 },
    });
    assert_eq!(reply["usage"], usage);
    let (chunks, done) = events(&bench.complete(&streamed).await);
    assert!(done);
    let told = |key: &str| -> Vec<&str> {
        let pieces = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"][key]);
        pieces.filter_map(Value::as_str).filter(|piece| !piece.is_empty()).collect()
    };
    assert_eq!(told("reasoning_content"), ["le", "t me see"]);
    assert_eq!(told("content").concat(), "0: be brief.\nreason about it");
    assert_eq!(chunks.last().unwrap()["usage"], usage);
    let plain: Value =
        serde_json::from_str(&bench.complete(&question(&"hello".into())).await.text).unwrap();
    assert_eq!(plain["choices"][0]["message"].get("reasoning_content"), None);
    assert_eq!(plain["usage"].get("completion_tokens_details"), None);
}
