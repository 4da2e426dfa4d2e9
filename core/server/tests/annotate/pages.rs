//! What the page asks the server, and what is on disk then.

use std::collections::HashSet;
use std::fs;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use isr_api::records::Choice;
use isr_server::annotate::{AnnotateError, router};
use serde_json::{Value, json};

use crate::bench::{Client, recorded, run, session};

#[tokio::test]
async fn choices_are_recorded_in_the_runs_order_whatever_was_shown() {
    let folder = run(24);
    let client = Client::new(folder.path(), "ann");
    let mut shown_first = HashSet::new();
    for done in 1..=24 {
        let state = client.pick_first().await;
        assert_eq!((state["done"].as_u64(), state["total"].as_u64()), (Some(done), Some(24)));
        let line = recorded(folder.path()).pop().unwrap();
        assert_eq!((line.choice, line.annotator.as_str(), line.iteration), (Choice::First, "ann", 1));
        assert_eq!(line.seconds, 1.5);
        shown_first.insert(line.first_shown_first);
    }
    assert_eq!(shown_first.len(), 2, "each order was shown");
    let samples: HashSet<_> = recorded(folder.path()).into_iter().map(|line| line.sample).collect();
    assert_eq!(samples.len(), 24);
    assert!(client.state().await["case"].is_null());
    assert_eq!(client.post("/api/pick", &json!({ "case": 0, "pick": "left", "seconds": 1 })).await.0, 409);
    assert_eq!(recorded(folder.path()).len(), 24);
}

#[tokio::test]
async fn a_state_does_not_tell_which_answer_is_which() {
    let folder = run(3);
    let state = Client::new(folder.path(), "ann").state().await;
    let keys: Vec<_> = state["case"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["index", "instruction", "answers", "frames", "found", "span"]);
    assert_eq!(state["case"]["found"], true);
}

#[tokio::test]
async fn a_restart_continues_with_the_same_pair_in_the_same_order() {
    let folder = run(6);
    let client = Client::new(folder.path(), "ann");
    for pick in ["left", "tie", "right"] {
        client.pick(pick).await;
    }
    let before = client.state().await;
    drop(client);
    let client = Client::new(folder.path(), "ann");
    assert_eq!(client.state().await, before);
    assert_eq!(before["done"], 3);
    while !client.state().await["case"].is_null() {
        client.pick("tie").await;
    }
    let lines = recorded(folder.path());
    let samples: HashSet<_> = lines.iter().map(|line| line.sample.clone()).collect();
    assert_eq!((lines.len(), samples.len()), (6, 6), "each once");
    drop(client);
    // Another person begins at the beginning, and sees the pairs in the same sequence.
    let other = Client::new(folder.path(), "bob");
    assert_eq!(other.state().await["done"], 0);
    other.pick("tie").await;
    let lines = recorded(folder.path());
    assert_eq!((lines.len(), &lines[6].sample), (7, &lines[0].sample));
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_asked_again() {
    let folder = run(2);
    let client = Client::new(folder.path(), "ann");
    client.pick("tie").await;
    client.pick("tie").await;
    drop(client);
    let path = folder.path().join("run/annotations.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 5]).unwrap();
    let client = Client::new(folder.path(), "ann");
    assert_eq!(client.state().await["done"], 1);
    client.pick("tie").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn undo_takes_the_last_line_out_and_asks_again_also_after_a_restart() {
    let folder = run(4);
    let other = Client::new(folder.path(), "bob");
    other.pick("tie").await;
    drop(other);
    let client = Client::new(folder.path(), "ann");
    assert_eq!(client.state().await["can_undo"], false);
    let refusal = (409, json!({ "error": "there is nothing to undo" }));
    assert_eq!(client.post("/api/undo", &json!({})).await, refusal);
    let first = client.state().await;
    client.pick_first().await;
    let second = client.state().await;
    client.pick("tie").await;
    assert_eq!(client.post("/api/undo", &json!({})).await.1["case"], second["case"]);
    drop(client);
    let client = Client::new(folder.path(), "ann");
    assert_eq!(client.post("/api/undo", &json!({})).await.1["case"], first["case"]);
    let lines = recorded(folder.path());
    assert_eq!((lines.len(), lines[0].annotator.as_str()), (1, "bob"), "others' lines stay");
    client.pick_first().await;
    assert_eq!(recorded(folder.path()).len(), 2, "and it goes on after that");
}

#[tokio::test]
async fn skipped_pairs_come_back_at_the_end_and_leave_no_line() {
    let folder = run(3);
    let client = Client::new(folder.path(), "ann");
    let skipped = client.state().await["case"].clone();
    let state = client.pick("skip").await;
    assert_eq!((&state["done"], &state["skipped"]), (&0.into(), &1.into()));
    client.pick("tie").await;
    let state = client.pick("tie").await;
    assert_eq!(state["case"], skipped);
    assert_eq!(client.pick("tie").await["case"], Value::Null);
    assert_eq!(recorded(folder.path()).len(), 3);
}

#[tokio::test]
async fn two_windows_do_not_count_a_pair_twice() {
    let folder = run(3);
    let client = Client::new(folder.path(), "ann");
    let body = json!({ "case": client.state().await["case"]["index"], "pick": "left", "seconds": 1 });
    assert_eq!(client.post("/api/pick", &body).await.0, 200);
    let (status, refusal) = client.post("/api/pick", &body).await;
    assert_eq!((status, &refusal["error"]), (409, &"this pair is not the one that is asked about".into()));
    assert_eq!(recorded(folder.path()).len(), 1);
    // Nor do two servers.
    let error = router(&session(folder.path(), "bob")).err().unwrap();
    assert!(matches!(error, AnnotateError::InUse { .. }), "{error}");
}

#[tokio::test]
async fn clips_are_served_whole_and_in_ranges() {
    let folder = run(1);
    let client = Client::new(folder.path(), "ann");
    let (status, headers, body) = client.get("/clip/0", &[]).await;
    assert_eq!(
        (status, headers["content-type"].as_bytes(), body.len()),
        (StatusCode::OK, &b"video/mp4"[..], 100)
    );
    let (status, headers, body) = client.get("/clip/0", &[("range", "bytes=10-19")]).await;
    assert_eq!((status, body), (StatusCode::PARTIAL_CONTENT, (10..20).collect()));
    assert_eq!(headers["content-range"], "bytes 10-19/100");
    let (status, _, body) = client.get("/clip/0", &[("range", "bytes=-5")]).await;
    assert_eq!((status, body), (StatusCode::PARTIAL_CONTENT, (95..100).collect()));
    assert_eq!(
        client.get("/clip/0", &[("range", "bytes=500-")]).await.0,
        StatusCode::RANGE_NOT_SATISFIABLE
    );
    assert_eq!(client.get("/clip/7", &[]).await.0, StatusCode::NOT_FOUND);
    fs::remove_file(folder.path().join("clip.mp4")).unwrap();
    assert_eq!(client.get("/clip/0", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(client.state().await["case"]["found"], false);
}

#[tokio::test]
async fn a_folder_of_frames_is_shown_frame_by_frame() {
    let folder = run(1);
    fs::remove_file(folder.path().join("clip.mp4")).unwrap();
    fs::create_dir(folder.path().join("clip.mp4")).unwrap();
    for name in ["b.png", "a.png", ".hidden.png", "notes.txt"] {
        fs::write(folder.path().join("clip.mp4").join(name), name).unwrap();
    }
    let client = Client::new(folder.path(), "ann");
    assert_eq!(client.state().await["case"]["frames"], 2);
    let (status, headers, body) = client.get("/clip/0/0", &[]).await;
    assert_eq!((status, body), (StatusCode::OK, b"a.png".to_vec()));
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(client.get("/clip/0/2", &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_fetches_nothing_and_other_pages_can_do_nothing() {
    let folder = run(1);
    let client = Client::new(folder.path(), "ann");
    let (_, headers, body) = client.get("/", &[]).await;
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'; "));
    let page = String::from_utf8(body).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "no address in the page");
    let pick = json!({ "case": 0, "pick": "left", "seconds": 1 }).to_string();
    let request = |host: &str, kind: &str| {
        let request = Request::post("/api/pick").header("host", host).header("content-type", kind);
        request.body(Body::from(pick.clone())).unwrap()
    };
    let rebound = client.send(request("evil.example", "application/json")).await;
    let simple = client.send(request("localhost", "text/plain")).await;
    assert_eq!((rebound.0, simple.0), (StatusCode::FORBIDDEN, StatusCode::UNSUPPORTED_MEDIA_TYPE));
    for wrong in [
        json!({ "case": 0, "pick": "both", "seconds": 1 }),
        json!({ "case": 0, "pick": "left", "seconds": -1 }),
    ] {
        assert_eq!(client.post("/api/pick", &wrong).await.0, 400);
    }
    assert!(recorded(folder.path()).is_empty());
}

#[test]
fn what_cannot_be_annotated_is_named() {
    let folder = run(1);
    let refusal = |change: &dyn Fn(&mut isr_server::annotate::AnnotateOptions)| {
        let mut session = session(folder.path(), "ann");
        change(&mut session);
        router(&session).err().unwrap().to_string()
    };
    let text = refusal(&|session| session.iteration = Some(2));
    assert!(text.starts_with("iteration 2 of ") && text.ends_with("answers to a sample"), "{text}");
    let text = refusal(&|session| session.run = folder.path().to_owned());
    assert!(text.contains("has no iteration with two different answers"), "{text}");
    assert!(refusal(&|session| session.annotator = " ".to_owned()).starts_with("--annotator is empty"));
}
