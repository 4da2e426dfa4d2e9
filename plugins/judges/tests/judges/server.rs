//! A small HTTP server on loopback that misbehaves as a test tells it to, and counts.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Judges: the answer with `red.` in it is better.
    Judge,
    /// A completion of this text.
    Say(&'static str),
    /// A status, headers and body.
    Status(u16, &'static str, &'static str),
    /// Reads the request and says nothing, for ever.
    Hang,
    /// Announces a longer body than it sends.
    Truncate,
    /// The right reply, a byte at a time, with this wait between bytes.
    Dribble(Duration),
    /// Closes the connection.
    Close,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    pub(crate) at: Instant,
    pub(crate) act: Act,
}

impl Received {
    /// The text of the last message.
    pub(crate) fn text(&self) -> String {
        let content = &self.body["messages"].as_array().unwrap().last().unwrap()["content"];
        let parts = content.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
        content.as_str().map_or_else(|| parts.collect(), str::to_owned)
    }
}

/// What the server has seen.
#[derive(Default)]
struct Log {
    received: Vec<Received>,
    /// Verdicts that were written to their last byte.
    judged: usize,
    under_way: usize,
    most_under_way: usize,
}

/// The running server.
pub(crate) struct Server {
    pub(crate) base_url: String,
    log: Arc<Mutex<Log>>,
}

impl Server {
    /// Listens; `script` says what to do with a request, given how many came before it.
    pub(crate) async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::listen(script, None).await
    }

    /// The same, behind TLS.
    pub(crate) async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::listen(script, Some(tls)).await
    }

    async fn listen(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base_url = format!("{scheme}://{}/v1", listener.local_addr().unwrap());
        let (log, script) = (Arc::<Mutex<Log>>::default(), Arc::new(script));
        let shared = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script, tls) = (Arc::clone(&shared), Arc::clone(&script), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &log, script.as_ref()).await,
                        Some(tls) => {
                            // A client that does not trust us asks nothing.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &log, script.as_ref()).await;
                            }
                        }
                    }
                });
            }
        });
        Self { base_url, log }
    }

    /// Requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.log.lock().unwrap().received.clone()
    }

    /// Verdicts that went out whole.
    pub(crate) fn judged(&self) -> usize {
        self.log.lock().unwrap().judged
    }

    /// Most requests that were under way at once.
    pub(crate) fn most_under_way(&self) -> usize {
        self.log.lock().unwrap().most_under_way
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

async fn serve(mut stream: impl Stream, log: &Mutex<Log>, script: &(dyn Fn(usize) -> Act + Send + Sync)) {
    let Some((line, headers, body)) = read(&mut stream).await else { return };
    let received = {
        let mut log = log.lock().unwrap();
        let act = script(log.received.len());
        let received = Received { line, headers, body, at: Instant::now(), act };
        log.received.push(received.clone());
        log.under_way += 1;
        log.most_under_way = log.most_under_way.max(log.under_way);
        received
    };
    let whole = answer(&mut stream, &received).await;
    let mut log = log.lock().unwrap();
    log.under_way -= 1;
    log.judged += usize::from(whole);
}

/// Reads one request: its line, headers and JSON body.
async fn read(stream: &mut impl Stream) -> Option<(String, BTreeMap<String, String>, Value)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<_, _> =
        pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length: usize = headers["content-length"].parse().unwrap();
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((line, headers, serde_json::from_slice(&bytes[end + 4..]).unwrap()))
}

/// Acts; true where a verdict went out whole.
async fn answer(stream: &mut impl Stream, received: &Received) -> bool {
    let verdict = || {
        let text = received.text();
        let red_first = text.find("red.").unwrap_or(0) < text.find("blue.").unwrap_or(0);
        completion(if red_first { "A" } else { "B" })
    };
    match &received.act {
        Act::Judge => write(stream, 200, "", &verdict(), 0).await,
        Act::Say(text) => write(stream, 200, "", &completion(text), 0).await,
        Act::Status(status, headers, body) => {
            write(stream, *status, headers, body, 0).await;
            false
        }
        Act::Hang => pending().await,
        Act::Truncate => {
            write(stream, 200, "", &verdict(), 10).await;
            false
        }
        Act::Dribble(wait) => {
            let body = verdict();
            if stream.write_all(head(200, "", body.len()).as_bytes()).await.is_err() {
                return false;
            }
            for byte in body.bytes() {
                tokio::time::sleep(*wait).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return false;
                }
            }
            true
        }
        Act::Close => false,
    }
}

fn completion(text: &str) -> String {
    json!({
        "id": "chatcmpl-1",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100 }
    })
    .to_string()
}

fn head(status: u16, headers: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n"
    )
}

async fn write(stream: &mut impl Stream, status: u16, headers: &str, body: &str, missing: usize) -> bool {
    let text = format!("{}{body}", head(status, headers, body.len() + missing));
    stream.write_all(text.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok()
}
