//! A hub: lists, files by range, redirects to a store of large files, tokens, and faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A repository: its commit and its files. Names that end in `.safetensors` are in the store.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) commit: &'static str,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// What a server does in place of sending the bytes that it is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// 416, whatever the range.
    Unsatisfiable,
    /// 206 with bytes of another place.
    OtherRange,
    /// 200 with the whole file.
    Whole,
    /// As many bytes as asked for, of another file.
    OtherBytes,
    /// A connection that ends before the response.
    Hangup,
    Status(&'static str),
}

/// How a hub describes its files.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manners {
    /// Redirects files of the store to a path of the hub first.
    pub(crate) relative_redirect: bool,
    /// Sends `X-Linked-Size`.
    pub(crate) linked_size: bool,
}

/// A request: what it asked for, its range and its token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    /// Repositories that want a token.
    gated: Vec<String>,
    /// Bytes after which the next bodies of a file from the store end.
    cuts: BTreeMap<String, Vec<usize>>,
    /// What happens to the next requests for bytes of a file.
    faults: BTreeMap<String, Vec<Fault>>,
    manners: Manners,
    requests: Vec<Request>,
}

/// A hub in a thread of this process.
pub(crate) struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
}

/// The token that opens gated repositories.
pub(crate) const TOKEN: &str = "hf_secret";

impl Server {
    /// Starts the hub and, on another port, its store.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let store = listen(&state, 0);
        Self { port: listen(&state, store), state }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn has(&self, name: &str, commit: &'static str, files: &[(&str, &[u8])]) {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        self.state.lock().unwrap().repositories.insert(name.to_owned(), Repository { commit, files });
    }

    pub(crate) fn gate(&self, name: &str) {
        self.state.lock().unwrap().gated.push(name.to_owned());
    }

    /// Lets the next bodies of a file from the store end after so many bytes, one after the other.
    pub(crate) fn cut(&self, file: &str, bytes: &[usize]) {
        let bytes = bytes.iter().rev().copied().collect();
        self.state.lock().unwrap().cuts.insert(file.to_owned(), bytes);
    }

    /// Lets requests for bytes of a file fail, one after the other.
    pub(crate) fn fail(&self, file: &str, faults: &[Fault]) {
        let faults = faults.iter().rev().copied().collect();
        self.state.lock().unwrap().faults.insert(file.to_owned(), faults);
    }

    pub(crate) fn behave(&self, manners: Manners) {
        self.state.lock().unwrap().manners = manners;
    }

    /// What was asked for since the last time that this was asked.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// Serves a new port, and returns it. Files of the store are at the port `store`.
fn listen(state: &Arc<Mutex<State>>, store: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::clone(state);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is no fault of the server's.
            let _ = serve(stream, store, &shared);
        }
    });
    port
}

fn serve(stream: TcpStream, port: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, range: None, token: None };
    for line in reader.by_ref().lines() {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut state = state.lock().unwrap();
    state.requests.push(request.clone());
    let answer = answer(&mut state, &request, port);
    drop(state);
    let mut stream = stream;
    stream.write_all(&answer)?;
    stream.shutdown(std::net::Shutdown::Write)
}

fn head(status: &str, headers: &[(&str, String)], length: usize) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    (head + "\r\n").into_bytes()
}

fn answer(state: &mut State, request: &Request, port: u16) -> Vec<u8> {
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "models", owner, name, "revision", revision] => {
            list(state, request, &format!("{owner}/{name}"), revision)
        }
        ["store", owner, name, file] => {
            let bytes = state.repositories[&format!("{owner}/{name}")].files[*file].clone();
            let is_body = request.range.as_deref() != Some("bytes=0-0");
            if let Some(fault) = state.faults.get_mut(*file).filter(|_| is_body).and_then(Vec::pop) {
                return faulty(request, &bytes, fault);
            }
            let cut = state.cuts.get_mut(*file).filter(|_| is_body).and_then(Vec::pop);
            ranged(request, &bytes, &[], cut)
        }
        [owner, name, "resolve", revision, file] => {
            let repository = format!("{owner}/{name}");
            resolved(state, request, &repository, revision, file, port)
        }
        // Behind a relative redirect.
        ["redirected", rest @ ..] => {
            let location = format!("http://127.0.0.1:{port}/{}", rest.join("/"));
            head("302 Found", &[("location", location), ("etag", "\"of the store\"".to_owned())], 0)
        }
        _ => head("404 Not Found", &[], 0),
    }
}

fn faulty(request: &Request, bytes: &[u8], fault: Fault) -> Vec<u8> {
    match fault {
        Fault::Unsatisfiable => head("416 Range Not Satisfiable", &[], 0),
        Fault::OtherRange => {
            let other = Request { range: Some("bytes=3-".to_owned()), ..request.clone() };
            ranged(&other, bytes, &[], None)
        }
        Fault::Whole => [head("200 OK", &[], bytes.len()), bytes.to_vec()].concat(),
        Fault::OtherBytes => {
            let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
            ranged(request, &other, &[], None)
        }
        Fault::Hangup => Vec::new(),
        Fault::Status(status) => head(status, &[], 0),
    }
}

/// The tag of a file: SHA-256 in the store, and git's digest of a blob beside it.
pub(crate) fn etag(file: &str, bytes: &[u8]) -> String {
    let digest = match file.ends_with(".safetensors") {
        true => Sha256::digest(bytes).to_vec(),
        false => Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()).to_vec(),
    };
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The repository, or the answer in its place.
fn opened<'s>(
    state: &'s State,
    request: &Request,
    name: &str,
    revision: &str,
) -> Result<&'s Repository, Vec<u8>> {
    let repository = state.repositories.get(name).ok_or_else(|| head("404 Not Found", &[], 0))?;
    if state.gated.contains(&name.to_owned()) {
        match request.token.as_deref() {
            Some(TOKEN) => {}
            Some(_) => return Err(head("403 Forbidden", &[], 0)),
            None => return Err(head("401 Unauthorized", &[], 0)),
        }
    }
    let known = revision == "main" || revision == repository.commit;
    if known { Ok(repository) } else { Err(head("404 Not Found", &[], 0)) }
}

fn list(state: &State, request: &Request, name: &str, revision: &str) -> Vec<u8> {
    let repository = match opened(state, request, name, revision) {
        Ok(repository) => repository,
        Err(answer) => return answer,
    };
    let files = repository.files.keys().map(|name| serde_json::json!({ "rfilename": name }));
    let files: Vec<_> = files.collect();
    let body = serde_json::json!({ "sha": repository.commit, "siblings": files }).to_string();
    let mut answer = head("200 OK", &[("content-type", "application/json".to_owned())], body.len());
    answer.extend(body.into_bytes());
    answer
}

fn resolved(
    state: &State,
    request: &Request,
    name: &str,
    revision: &str,
    file: &str,
    port: u16,
) -> Vec<u8> {
    let repository = match opened(state, request, name, revision) {
        Ok(repository) => repository,
        Err(answer) => return answer,
    };
    let Some(bytes) = repository.files.get(file) else {
        return head("404 Not Found", &[], 0);
    };
    let etag = format!("\"{}\"", etag(file, bytes));
    let commit = ("x-repo-commit", repository.commit.to_owned());
    if !file.ends_with(".safetensors") {
        return ranged(request, bytes, &[commit, ("etag", etag)], None);
    }
    let location = match state.manners.relative_redirect {
        true => format!("/redirected/store/{name}/{file}"),
        false => format!("http://127.0.0.1:{port}/store/{name}/{file}"),
    };
    let mut headers = vec![commit, ("x-linked-etag", etag), ("location", location)];
    if state.manners.linked_size {
        headers.push(("x-linked-size", bytes.len().to_string()));
    }
    head("302 Found", &headers, 0)
}

/// The bytes from the start of the range on; of those, the first `cut`.
fn ranged(request: &Request, bytes: &[u8], headers: &[(&str, String)], cut: Option<usize>) -> Vec<u8> {
    let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
    let (start, end) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len()));
    if start >= bytes.len() {
        return head("416 Range Not Satisfiable", &[], 0);
    }
    let mut headers = headers.to_vec();
    headers.push(("content-range", format!("bytes {start}-{}/{}", end - 1, bytes.len())));
    let mut answer = head("206 Partial Content", &headers, end - start);
    answer.extend(bytes[start..end].iter().take(cut.unwrap_or(usize::MAX)));
    answer
}
