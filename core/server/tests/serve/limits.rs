//! Who may ask, how much, and how the server ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use isr_server::http::{Auth, ConnectionLimits, WebError, listen, serve};
use isr_server::openai::ServeOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::fake::{Bench, post, question};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn with_a_token_all_but_health_needs_it() {
    let bench = Bench::new(ServeOptions { auth: Auth::token("t0ken"), ..ServeOptions::default() });
    for path in ["/v1/models", "/metrics", "/v1/nothing"] {
        let reply = bench.get(path).await;
        assert_eq!(
            reply.error(),
            (401, "send the token of this server as `Authorization: Bearer TOKEN`".to_owned())
        );
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(bench.get("/health").await.text, r#"{"status":"ok"}"#);
    let request = Request::get("/v1/models").header("authorization", "Bearer t0ken");
    assert_eq!(bench.send(request.body(Body::empty()).unwrap()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_one_a_page_of_another_host_is_refused() {
    let bench = Bench::new(ServeOptions::default());
    let request = Request::get("/v1/models").header("host", "evil.example:8000");
    assert_eq!(bench.send(request.body(Body::empty()).unwrap()).await.error().0, 403);
    let mut simple = post(&question(&"hello".into()));
    simple.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(bench.send(simple).await.error().0, 415, "what a page may send without asking");
}

#[tokio::test]
async fn only_a_guarded_server_listens_to_other_machines() {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    assert!(matches!(listen(everywhere, 0, &Auth::Loopback).await, Err(WebError::Open(_))));
    assert!(listen(everywhere, 0, &Auth::token("t")).await.is_ok());
    let taken = listen(LOOPBACK, 0, &Auth::Loopback).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = listen(LOOPBACK, port, &Auth::Loopback).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{error}");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_whether_announced_or_not() {
    let bench = Bench::new(ServeOptions { body_bytes: 200, ..ServeOptions::default() });
    assert_eq!(bench.ask(&"x".repeat(50).into()).await.status, StatusCode::OK);
    let long = question(&"x".repeat(300).into());
    let refusal = (413, "the body is longer than the 200 bytes that this server takes".to_owned());
    assert_eq!(bench.complete(&long).await.error(), refusal);
    let mut announced = post(&long);
    announced.headers_mut().insert("content-length", "1000000000".parse().unwrap());
    assert_eq!(bench.send(announced).await.error(), refusal);
    assert_eq!(bench.echo.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn requests_beyond_the_queue_are_told_to_come_again_and_are_counted() {
    let bench = Bench::new(ServeOptions { queue: 2, ..ServeOptions::default() });
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let request = bench.router.clone().oneshot(post(&question(&"hang".into())));
        hanging.push(tokio::spawn(request));
    }
    while bench.echo.asked.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let reply = bench.ask(&"hello".into()).await;
    assert_eq!((reply.error().0, &reply.headers["retry-after"]), (429, &"1".parse().unwrap()));
    let metrics = bench.get("/metrics").await.text;
    assert!(metrics.contains("isr_requests_under_way 2\n"), "{metrics}");
    for task in hanging {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    bench.ask(&"hello there".into()).await.answer();
    let metrics = bench.get("/metrics").await.text;
    for line in [
        "isr_http_requests_total{path=\"/v1/chat/completions\",status=\"429\"} 1\n",
        "isr_http_requests_total{path=\"/v1/chat/completions\",status=\"200\"} 1\n",
        "isr_requests_under_way 0\n",
        "isr_prompt_tokens_total 4\n",
        "isr_completion_tokens_total 3\n",
        "isr_request_seconds_count 3\n",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn text_that_cannot_fit_is_refused_before_the_model_sees_it() {
    let bench = Bench::new(ServeOptions { text_bytes: 100, ..ServeOptions::default() });
    bench.ask(&"x".repeat(100).into()).await.answer();
    let (status, message) = bench.ask(&"x".repeat(101).into()).await.error();
    assert_eq!(status, 400);
    assert!(message.starts_with("the messages have 101 bytes of text, more than the 100 "), "{message}");
    assert_eq!(bench.echo.asked.lock().unwrap().len(), 1);
}

/// A server on loopback with limits.
async fn started(bench: &Bench, limits: ConnectionLimits) -> (SocketAddr, CancellationToken) {
    let listener = listen(LOOPBACK, 0, &Auth::Loopback).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, bench.router.clone(), limits, stop.clone(), Duration::ZERO));
    (address, stop)
}

fn post_of(body: &str, length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

async fn asked_of(address: SocketAddr) -> String {
    let body = question(&"hello".into()).to_string();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(post_of(&body, body.len()).as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn connections_that_send_one_byte_lock_nobody_out() {
    let bench = Bench::new(ServeOptions::default());
    // No time limit helps here.
    let limits = ConnectionLimits { open: 10, head: Duration::from_secs(3600) };
    let (address, _stop) = started(&bench, limits).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"P").await.unwrap();
        waiting.push(stream);
    }
    let reply = asked_of(address).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    let mut byte = [0];
    for stream in &mut waiting[..40] {
        // Closed, or reset where the byte was not read.
        assert!(!stream.read(&mut byte).await.is_ok_and(|read| read > 0));
    }
}

#[tokio::test]
async fn bodies_that_do_not_come_lock_nobody_out() {
    let bench = Bench::new(ServeOptions { queue: 2, ..ServeOptions::default() });
    let (address, _stop) = started(&bench, ConnectionLimits::default()).await;
    let mut slow = Vec::new();
    for _ in 0..12 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(post_of("{", 1000).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..3 {
        let reply = asked_of(address).await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    }
}

#[tokio::test]
async fn a_connection_whose_request_is_answered_is_not_closed_for_another() {
    let bench = Bench::new(ServeOptions::default());
    let limits = ConnectionLimits { open: 2, head: Duration::from_secs(3600) };
    let (address, _stop) = started(&bench, limits).await;
    let body = question(&"hang".into()).to_string();
    let mut held = TcpStream::connect(address).await.unwrap();
    held.write_all(post_of(&body, body.len()).as_bytes()).await.unwrap();
    while bench.echo.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        let reply = asked_of(address).await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    }
    assert_eq!(bench.echo.abandoned.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let bench = Bench::new(ServeOptions::default());
    let limits = ConnectionLimits { head: Duration::from_millis(20), ..ConnectionLimits::default() };
    let (address, _stop) = started(&bench, limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
    // Without a limit, this would wait for ever.
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
}

/// A server on loopback, and a stream to it that has sent a question.
async fn asked(
    text: &str,
    grace: Duration,
) -> (TcpStream, CancellationToken, tokio::task::JoinHandle<bool>) {
    let bench = Bench::new(ServeOptions::default());
    let listener = listen(LOOPBACK, 0, &Auth::Loopback).await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn({
        let (router, stop) = (bench.router.clone(), stop.clone());
        async move { serve(listener, router, ConnectionLimits::default(), stop, grace).await }
    });
    let body = question(&text.into()).to_string();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    // The server has the head, and waits for the body.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stop.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    (stream, stop, server)
}

#[tokio::test]
async fn what_is_under_way_is_ended_when_the_server_stops() {
    let (mut stream, _stop, server) = asked("hello", Duration::from_secs(20)).await;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.contains("0: be brief."), "{reply}");
    assert!(server.await.unwrap(), "all came to an end");
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_off() {
    let (_stream, _stop, server) = asked("hang", Duration::from_millis(100)).await;
    assert!(!server.await.unwrap());
}
