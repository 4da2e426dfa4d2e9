//! The published scorers against a server whose replies are given: the same figures as the published scripts give on these
//! replies, and the same requests.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

#[allow(dead_code, reason = "the judges' tests use the rest")]
#[path = "../../judges/tests/judges/server.rs"]
mod server;

use std::path::Path;

use isr_api::{BuildContext, Component, ComponentError, LabelledSample, Sample};
use isr_chat::ServerConfig;
use isr_config::registry::EvaluatorConfig;
use isr_questions::{
    Form, Layout, Marked, Predictions, Questions, Results, Scorer, ScorerConfig, ScorerKind, ScoringError,
    TableForm, Unparsed, mark_set, table,
};
use serde_json::{Value, json};
use server::{Act, Server};
use tokio_util::sync::CancellationToken;

/// Eight questions about four videos in LLaVA-Hound's layout.
fn questions() -> Questions {
    let row = |index: usize| {
        let video = format!("frames/v_{}", index / 2);
        json!({
            "id": format!("q{index}"), "video": video, "caption": format!("caption {{of}} {}", index / 2),
            "conversations": [
                { "from": "human", "value": format!("<video>\nwhat is {index}?") },
                { "from": "gpt", "value": "a dog" },
            ],
        })
    };
    Questions::read((0..8).map(|index| (index + 1, Ok(row(index)))), None).unwrap()
}

/// A prediction for each, in LLaVA-Hound's layout; the last is long.
fn predictions() -> Predictions {
    let row = |index: usize| {
        let text = if index == 7 { "word  ".repeat(300) } else { format!("it is\n{index}") };
        json!({
            "id": format!("q{index}"), "modal_path": "x", "query": format!("what is {index}?"), "answer": "a dog",
            "model_prediction": { "status": "success", "message": text },
        })
    };
    Predictions::read((0..8).map(|index| (index + 1, Ok(row(index))))).unwrap()
}

/// A scorer that asks this server, one prediction at a time.
fn config(scorer: ScorerKind, form: Form, server: &Server) -> ScorerConfig {
    let server =
        ServerConfig { concurrency: 1, ..ServerConfig::new(&server.base_url, "gpt-3.5-turbo-0301") };
    ScorerConfig { server: Some(server), form, ..ScorerConfig::of(scorer) }
}

async fn replying(replies: &'static [&'static str]) -> Server {
    Server::start(move |request| Act::Say(replies[request % replies.len()])).await
}

async fn marked(
    config: &ScorerConfig,
    predictions: &Predictions,
    dir: &Path,
) -> Result<Marked, ScoringError> {
    let scorer = Scorer::new(config).unwrap();
    mark_set(&questions(), predictions, &scorer, dir, &CancellationToken::new(), |_, _| {}).await
}

/// The results of one model, with the line that LLaVA-Hound's scripts would write.
async fn published(config: &ScorerConfig, dir: &Path) -> (Results, String) {
    let marked = marked(config, &predictions(), dir).await.unwrap();
    let mut results = Results::new();
    results.add("mine", "msvd", None, &Scorer::new(config).unwrap(), marked);
    let line = results.results[0].published_line().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    (results, line["result"].as_str().unwrap().to_owned())
}

const SCORES: [&str; 8] = [
    "Explanation: right.\nScore: 4",
    "Score: 2",
    "Score: 3.5",
    "I would say 4, or 4 of 5",
    "I cannot say.",
    "Score: 1",
    "Score: 5",
    "Looks like a 2",
];

/// Expected: `get_score` and the sums of LLaVA-Hound's `eval_qa.py` on `SCORES`.
#[tokio::test]
async fn scores_from_1_to_5_give_the_figures_of_the_published_script() {
    let (dir, server) = (tempfile::tempdir().unwrap(), replying(&SCORES).await);
    let config = config(ScorerKind::Score1To5, Form::default(), &server);
    let (results, line) = published(&config, dir.path()).await;
    assert_eq!(line, "50.00/2.81");
    let result = &results.results[0];
    assert_eq!((result.unparsed, result.unparsed_examples[0].as_str()), (3, "I would say 4, or 4 of 5"));
    let accuracy = result.accuracy.as_ref().unwrap();
    assert_eq!((accuracy.n, accuracy.videos), (8, 4));
    // Without the unparsed: 4, 2, 3.5, 1 and 5.
    assert_eq!((result.stated.n, result.stated.score.as_ref().unwrap().value), (5, 3.1));
    let shown = table(&results, TableForm::Markdown);
    assert!(
        shown.contains("mine on msvd: 3 unparsed, such as `I would say 4, or 4 of 5`; accuracy 60.00"),
        "{shown}"
    );

    let received = server.received();
    assert_eq!(received.len(), 8);
    let mut body = received[0].body.clone();
    insta::assert_snapshot!(body["messages"][0]["content"].take().as_str().unwrap());
    assert_eq!(
        body,
        json!({ "model": "gpt-3.5-turbo-0301", "messages": [{ "role": "user", "content": null }], "temperature": 0.0, "top_p": 1.0 })
    );
    let cut = received[7].text();
    assert_eq!(cut.matches("word").count(), 256);
    assert!(received[0].text().contains("it is\n0"), "what is not cut stays as it is");

    // What was scored is not scored again.
    assert_eq!(published(&config, dir.path()).await.1, "50.00/2.81");
    assert_eq!(server.received().len(), 8);
}

#[tokio::test]
async fn unparsed_replies_may_be_left_out() {
    let (dir, server) = (tempfile::tempdir().unwrap(), replying(&SCORES).await);
    let unparsed = Unparsed::LeaveOut;
    let config = ScorerConfig { unparsed, ..config(ScorerKind::Score1To5, Form::default(), &server) };
    let (results, line) = published(&config, dir.path()).await;
    assert_eq!((line.as_str(), results.results[0].unparsed), ("60.00/3.10", 3));
}

const YES_NO: [&str; 8] = [
    "{'pred': 'yes', 'score': 4}",
    "{'pred': 'no', 'score': 1}",
    "{\"pred\": \"yes\", \"score\": 4.8}",
    "I know nothing",
    "4",
    "{'score': 2}",
    "{'pred': 'yes', 'score': 5}",
    "{'pred': 'no', 'score': 0}",
];

/// Expected: `extract_score` and the sums of LLaVA-Hound's `eval_official_qa.py`; of Video-ChatGPT's
/// `evaluate_activitynet_qa.py` those on the replies that it accepts.
#[tokio::test]
async fn yes_and_no_give_the_figures_of_the_published_scripts() {
    for (form, line, stated) in [(Form::LlavaHound, "50.00/2.67", 5), (Form::VideoChatgpt, "60.00/2.67", 5)]
    {
        let (dir, server) = (tempfile::tempdir().unwrap(), replying(&YES_NO).await);
        let config = config(ScorerKind::YesNo0To5, form, &server);
        let (results, got) = published(&config, dir.path()).await;
        assert_eq!((got.as_str(), results.results[0].stated.n), (line, stated), "{form:?}");
        let body = server.received()[0].body.clone();
        assert_eq!(body.get("temperature").is_some(), form == Form::LlavaHound);
        let [system, user] =
            [0, 1].map(|index| body["messages"][index]["content"].as_str().unwrap().to_owned());
        insta::assert_snapshot!(format!("{form:?}"), format!("{system}\n=====\n{user}"));
    }
}

#[tokio::test]
async fn video_chatgpt_asks_again_for_what_cannot_be_read() {
    let server = replying(&["no dictionary", "{'pred': 'yes', 'score': 3}"]).await;
    let dir = tempfile::tempdir().unwrap();
    let config = ScorerConfig { attempts: 2, ..config(ScorerKind::YesNo0To5, Form::VideoChatgpt, &server) };
    assert_eq!(published(&config, dir.path()).await.1, "100.00/3.00");
    assert_eq!(server.received().len(), 16);
}

#[tokio::test]
async fn a_scorer_that_says_nothing_readable_is_an_error_and_no_zero() {
    let (dir, server) = (tempfile::tempdir().unwrap(), replying(&["as an AI model, I cannot"]).await);
    let config = config(ScorerKind::Score1To5, Form::default(), &server);
    let error = marked(&config, &predictions(), dir.path()).await.unwrap_err().to_string();
    let path = isr_questions::marks_file(dir.path(), &Scorer::new(&config).unwrap());
    insta::assert_snapshot!(error.replace(path.to_str().unwrap(), "FILE"));
}

#[tokio::test]
async fn a_server_that_fails_stops_the_scoring_and_what_was_scored_is_kept() {
    let server = Server::start(|request| match request {
        3 => Act::Status(401, "", "no such key"),
        _ => Act::Say("Score: 4"),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(ScorerKind::Score1To5, Form::default(), &server);
    let error = marked(&config, &predictions(), dir.path()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("scoring by score_1_5, gpt-3.5-turbo-0301, q3: the server said 401"),
        "{error}"
    );
    assert_eq!(published(&config, dir.path()).await.1, "100.00/4.00");
    assert_eq!(server.received().len(), 9, "three before the failure, the failed one, and five after it");
}

#[tokio::test]
async fn a_changed_prediction_is_scored_anew() {
    let (dir, server) = (tempfile::tempdir().unwrap(), replying(&["Score: 4"]).await);
    let config = config(ScorerKind::Score1To5, Form::default(), &server);
    marked(&config, &predictions(), dir.path()).await.unwrap();
    let mut changed = predictions();
    changed.predictions[2].text = Ok("another".to_owned());
    marked(&config, &changed, dir.path()).await.unwrap();
    assert_eq!(server.received().len(), 9);
    assert!(server.received()[8].text().contains("another"));
}

#[tokio::test]
async fn what_cannot_be_scored_is_quarantined_with_line_and_reason() {
    let (dir, server) = (tempfile::tempdir().unwrap(), replying(&["Score: 4"]).await);
    let rows = [
        json!({ "id": "q0", "query": "what is 0?", "model_prediction": { "status": "success", "message": "x" } }),
        json!({ "id": "q1", "query": "what is 1?", "model_prediction": { "status": "error", "message": "no video" } }),
        json!({ "id": "q2", "query": "who is 2?", "model_prediction": { "status": "success", "message": "x" } }),
        json!({ "id": "q9", "query": "what is 9?", "pred": "x" }),
        json!({ "id": "q0", "pred": "again" }),
        json!({ "id": "q4" }),
        json!(7),
    ];
    let rows = rows.into_iter().enumerate().map(|(index, row)| (index + 1, Ok(row)));
    let predictions = Predictions::read(rows).unwrap();
    let config = config(ScorerKind::Score1To5, Form::default(), &server);
    let marked = marked(&config, &predictions, dir.path()).await.unwrap();
    assert_eq!((marked.questions, marked.missing, marked.quarantined.len()), (8, 7, 6));
    insta::assert_snapshot!(std::fs::read_to_string(dir.path().join("quarantine.jsonl")).unwrap());
}

#[test]
fn a_file_in_another_layout_is_refused_with_the_nearest() {
    let read =
        |row: Value, layout| Questions::read([(1, Ok(row))].into_iter(), layout).unwrap_err().to_string();
    let shown = [
        read(json!({ "id": 1, "video": "v", "instruction": "what?", "answer": "x" }), None),
        read(
            json!({ "id": 1, "video": "v", "question": "what?", "answer": "x" }),
            Some(Layout::LlavaHound),
        ),
        read(json!({ "basic": {}, "hallucination": {} }), None),
        Questions::read(std::iter::empty(), None).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn questions_that_a_scorer_has_no_use_for_are_refused_with_the_one_that_has() {
    let row = json!({ "id": 1, "video": "v", "question": "what?", "answer": "x" });
    let questions = Questions::read([(1, Ok(row))].into_iter(), None).unwrap();
    let refused = |config: &ScorerConfig| {
        isr_questions::check_questions(&questions, &Scorer::new(config).unwrap()).unwrap_err().to_string()
    };
    let server = Some(ServerConfig::new("http://127.0.0.1:1/v1", "m"));
    let shown = [
        refused(&ScorerConfig { server, ..ScorerConfig::of(ScorerKind::Score1To5) }),
        refused(&ScorerConfig::of(ScorerKind::Options)),
        refused(&ScorerConfig::of(ScorerKind::YesNoPairs)),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test]
async fn the_evaluator_of_a_run_has_the_figures_and_leaves_out_what_counts_for_nothing() {
    let server = replying(&["Score: 4", "Score: 2", "no idea"]).await;
    let config = json!({
        "type": "questions", "scorer": "score_1_5", "unparsed": "leave_out",
        "server": { "base_url": server.base_url, "model": "m" },
    });
    let config: Box<dyn EvaluatorConfig> = serde_json::from_value(config).unwrap();
    let evaluator = config.build(&BuildContext::default()).unwrap();
    assert!(evaluator.is_costly());
    let sample = Sample { id: "a".into(), video: "a.mp4".into(), instruction: "what?".to_owned() };
    let mut labelled = LabelledSample { sample, reference: "a dog".to_owned(), facts: json!("a dog runs") };
    let mut metrics = Vec::new();
    for _ in 0..3 {
        let assessment = evaluator.answer(&labelled, "a cat").await.unwrap().unwrap();
        metrics.push(json!(assessment.metrics));
    }
    let expected = [
        json!({ "accuracy": 1.0, "score": 4.0, "unparsed": 0.0 }),
        json!({ "accuracy": 0.0, "score": 2.0, "unparsed": 0.0 }),
        json!({ "unparsed": 1.0 }),
    ];
    assert_eq!(metrics, expected);
    assert!(server.received()[0].text().contains("a dog runs"));
    labelled.facts = json!({ "caption": "a dog sleeps" });
    evaluator.answer(&labelled, "a cat").await.unwrap();
    assert!(server.received()[3].text().contains("a dog sleeps"));
    labelled.facts = Value::Null;
    let error = evaluator.answer(&labelled, "a cat").await.unwrap_err();
    assert!(
        matches!(error, ComponentError::BadInput(_)) && error.to_string().contains("no caption"),
        "{error}"
    );
}

#[tokio::test]
async fn the_evaluator_keeps_its_contract() {
    let sample = Sample { id: "a".into(), video: "a.mp4".into(), instruction: "what?".to_owned() };
    let labelled = LabelledSample { sample, reference: "a dog".to_owned(), facts: json!("a dog runs") };
    let server = replying(&["Score: 4"]).await;
    for config in [
        ScorerConfig::of(ScorerKind::Exact),
        config(ScorerKind::Score1To5, Form::default(), &server),
        config(ScorerKind::YesNo0To5, Form::LlavaHound, &server),
    ] {
        let evaluator = Component::build(&config, &BuildContext::default()).unwrap();
        assert_eq!(isr_testing::evaluator(evaluator, &labelled, "the dog").await, []);
    }
}

#[test]
fn settings_of_a_scorer_are_checked() {
    let refused = |settings: Value| {
        let mut section = settings;
        section["type"] = json!("questions");
        let config: Box<dyn EvaluatorConfig> = serde_json::from_value(section).unwrap();
        config.validate().unwrap_err()
    };
    let server = json!({ "base_url": "http://a/v1", "model": "m" });
    let shown = [
        refused(json!({ "scorer": "score_1_5" })),
        refused(json!({ "scorer": "exact", "server": server })),
        refused(json!({ "scorer": "exact", "prompt": "{question}" })),
        refused(json!({ "scorer": "score_1_5", "server": server, "prompt": "{question} {answer}" })),
        refused(json!({ "scorer": "score_1_5", "server": { "base_url": "ftp://a", "model": "m" } })),
        refused(json!({ "scorer": "score_1_5", "server": server, "attempts": 0 })),
        refused(json!({ "scorer": "exact", "max_words": 0 })),
        refused(json!({ "scorer": "yes_no_pairs" })),
        refused(json!({ "scorer": "options" })),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test]
async fn both_questions_of_a_pair_must_be_right() {
    let part = |video: &str, answer: &str| json!({ "video": video, "question": "is there a dog?", "answer": answer });
    let rows = (0..4).map(|index| {
        let video = format!("{index}.mp4");
        (index + 1, Ok(json!({ "basic": part(&video, "yes"), "hallucination": part(&video, "no"), "type": "object" })))
    });
    let questions = Questions::read(rows, None).unwrap();
    assert!(questions.questions[0].prompt().ends_with("\nAnswer the question using 'yes' or 'no'."));
    let said = [("Yes.", "No."), ("yes", "Yes"), ("No", "no."), ("Yes, there is", "no")];
    let rows = said.iter().enumerate().map(|(index, (basic, hallucination))| {
        (
            index + 1,
            Ok(json!({ "basic": { "predict": basic }, "hallucination": { "predict": hallucination } })),
        )
    });
    let predictions = Predictions::read(rows).unwrap();
    let (dir, scorer) =
        (tempfile::tempdir().unwrap(), Scorer::new(&ScorerConfig::of(ScorerKind::YesNoPairs)).unwrap());
    let cancel = CancellationToken::new();
    let marked = mark_set(&questions, &predictions, &scorer, dir.path(), &cancel, |_, _| {}).await.unwrap();
    let mut results = Results::new();
    results.add("mine", "hallucer", None, &scorer, marked);
    // VideoHallucer's `cal_score`: basic 2 of 4, hallucination 3 of 4, both 1 of 4.
    let result = &results.results[0];
    assert_eq!(result.accuracy.as_ref().unwrap().value, 0.25);
    assert_eq!((result.parts["basic"], result.parts["hallucination"], result.unparsed), (0.5, 0.75, 1));
}
