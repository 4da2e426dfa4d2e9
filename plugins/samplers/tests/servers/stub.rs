//! A server of ours that speaks an engine's calls, and is restarted, overloaded or gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use isr_api::{BuildContext, Component, Sampler};
use isr_samplers::{SglangConfig, VllmConfig};
use serde_json::{Value, json};

use crate::{sglang, vllm};

/// The engine that is spoken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Engine {
    Vllm,
    Sglang,
}

pub(crate) const ENGINES: [Engine; 2] = [Engine::Vllm, Engine::Sglang];

/// What the server holds and was asked; a restart forgets the first.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) version: Option<String>,
    pub(crate) adapters: Vec<String>,
    pub(crate) calls: Vec<(String, Value)>,
    /// Completions that are answered by a restart, with and without an answer in turn.
    pub(crate) restarts: usize,
    /// Completions that the server gives up.
    pub(crate) aborts: usize,
    /// Answer to a path in place of the usual one.
    pub(crate) refusal: Option<(&'static str, u16, &'static str)>,
}

#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) engine: Engine,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) url: String,
}

impl Stub {
    pub(crate) fn start(engine: Engine) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub = Self { engine, state: Arc::default(), url };
        let served = stub.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stub = served.clone();
                std::thread::spawn(move || stub.serve(stream));
            }
        });
        stub
    }

    /// A server that nobody has started.
    pub(crate) fn absent(engine: Engine) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { engine, state: Arc::default(), url: format!("http://127.0.0.1:{port}") }
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                break;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let Some((status, answer)) = self.answer(&path, &body) else { return };
        let text = answer.to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
    }

    /// Status and body; `None` where the connection breaks.
    fn answer(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut state = self.state.lock().unwrap();
        state.calls.push((path.to_owned(), body.clone()));
        if let Some((of, status, text)) = state.refusal
            && path == of
        {
            return Some((status, json!({ "error": { "message": text } })));
        }
        match path {
            "/health" => return Some((200, json!({}))),
            "/v1/models" => {
                let names = std::iter::once("base").chain(state.adapters.iter().map(String::as_str));
                let models: Vec<_> = names.map(|id| json!({ "id": id })).collect();
                return Some((200, json!({ "data": models })));
            }
            "/v1/chat/completions" if state.restarts > 0 => {
                state.restarts -= 1;
                (state.version, state.adapters) = (None, Vec::new());
                // The connection breaks, or the new server answers with the weights that it was started with.
                if state.restarts % 2 == 1 {
                    return None;
                }
            }
            _ => {}
        }
        Some(match self.engine {
            Engine::Vllm => vllm::answer(&mut state, path, body),
            Engine::Sglang => sglang::answer(&mut state, path, body),
        })
    }

    pub(crate) fn sampler(&self, dir: &Path, settings: Value) -> Arc<dyn Sampler> {
        let mut all = json!({ "base_url": self.url, "weights_dir": dir, "start_s": 20.0 });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        match self.engine {
            Engine::Vllm => built(&serde_json::from_value::<VllmConfig>(all).unwrap()),
            Engine::Sglang => built(&serde_json::from_value::<SglangConfig>(all).unwrap()),
        }
    }

    /// Bodies of the requests to a path.
    pub(crate) fn asked(&self, path: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|(of, _)| of == path).map(|(_, body)| body.clone()).collect()
    }
}

fn built(config: &impl Component<Built = Arc<dyn Sampler>>) -> Arc<dyn Sampler> {
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap()
}

impl State {
    /// Why the next completion ends.
    pub(crate) fn ending(&mut self) -> &'static str {
        match self.aborts {
            0 => "stop",
            _ => {
                self.aborts -= 1;
                "abort"
            }
        }
    }
}
