//! `isr serve` on the golden checkpoint.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{clip, command, golden_model, isr, isr_line};

/// A server that ends with the value.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Self {
        let mut command = command(folder);
        command.args(["serve", "--port", "0", "--name", "tiny", "--model"]).arg(golden_model()).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { child, address }
    }

    /// Status and body of a request.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json");
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn complete(&self, body: &Value) -> (u16, Value) {
        let (status, text) = self.send("POST", "/v1/chat/completions", &body.to_string());
        (status, serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn question(video: &Path, more: Value) -> Value {
    let url = format!("file://{}", video.display());
    let mut body = json!({
        "model": "tiny",
        "messages": [{ "role": "user", "content": [
            { "type": "video_url", "video_url": { "url": url } },
            { "type": "text", "text": "What is shown?" },
        ] }],
        "max_tokens": 12,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_served_model_says_what_generate_says_whole_or_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let video = clip(folder.path());
    let serving = Serving::start(folder.path(), &["--allow-dir", "."]);
    let model = golden_model();
    let args = ["generate", "--model", model.to_str().unwrap(), "--video", "clip.mp4", "--json"];
    let more = ["--prompt", "What is shown?", "--max-new-tokens", "12", "--seed", "5"];
    let said = isr(folder.path(), args.iter().chain(&more)).result();
    let said: Value = serde_json::from_str(&said).unwrap();

    let (status, reply) =
        serving.complete(&question(&video, json!({ "seed": 5, "n": 2, "logprobs": true })));
    assert_eq!(status, 200, "{reply}");
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["content"], said["text"]);
    assert_eq!(choice["finish_reason"], said["finish_reason"]);
    let tokens = said["token_ids"].as_array().unwrap();
    assert_eq!(choice["logprobs"]["content"].as_array().unwrap().len(), tokens.len());
    let usage = &reply["usage"];
    let second = reply["choices"][1]["logprobs"]["content"].as_array().unwrap().len();
    assert_eq!(usage["completion_tokens"], tokens.len() + second);
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 8, "eight frames and a question: {usage}");

    let stream = question(&video, json!({ "seed": 5, "stream": true }));
    let (status, events) = serving.send("POST", "/v1/chat/completions", &stream.to_string());
    assert_eq!(status, 200, "{events}");
    let data: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let (last, chunks) = data.split_last().unwrap();
    assert_eq!(*last, "[DONE]");
    let pieces: Vec<String> = chunks
        .iter()
        .map(|chunk| serde_json::from_str::<Value>(chunk).unwrap())
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(pieces.concat(), said["text"]);
    assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() > 3, "in pieces: {pieces:?}");

    // A picture, which no file system path comes with.
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAE0lEQVR4nGP4z8DAAMIM/xsaGgAc9AR+KYBA2AAAAABJRU5ErkJggg==";
    let picture =
        json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{png}") } });
    let mut about = question(&video, json!({}));
    about["messages"][0]["content"][0] = picture;
    let (status, reply) = serving.complete(&about);
    assert_eq!(status, 200, "{reply}");
    assert!(reply["usage"]["prompt_tokens"].as_u64() < usage["prompt_tokens"].as_u64(), "one frame");

    // What the model's own checks refuse is the client's fault.
    let mut long = question(&video, json!({}));
    long["messages"][0]["content"][1]["text"] = "word ".repeat(4000).into();
    let (status, reply) = serving.complete(&long);
    assert_eq!((status, &reply["error"]["param"]), (400, &"messages".into()), "{reply}");
    assert!(serving.send("GET", "/metrics", "").1.contains("status=\"400\"} 1"));
}

#[test]
fn a_signal_stops_the_server_with_success() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["-INT", "-TERM"] {
        let mut serving = Serving::start(folder.path(), &[]);
        assert_eq!(serving.send("GET", "/health", "").0, 200);
        let id = serving.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert_eq!(serving.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn an_open_address_a_missing_token_and_a_missing_folder_are_refused_before_the_model_is_loaded() {
    let folder = Path::new(".");
    insta::assert_snapshot!(isr_line(folder, "serve --model x --host 0.0.0.0").all(), @r"
    exit code 2
    error: 0.0.0.0 can be reached from other machines, so a token is needed: put one into an environment variable and name it with --token-env
    ");
    insta::assert_snapshot!(isr_line(folder, "serve --model x --token-env ISR_NO_TOKEN").all(), @r"
    exit code 2
    error: environment variable ISR_NO_TOKEN is not set or empty; set it to the token that clients must send
    ");
    let model = golden_model();
    let args = ["serve", "--port", "0", "--model", model.to_str().unwrap(), "--allow-dir", "no/such"];
    let said = isr(folder, args);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.starts_with("error: --allow-dir no/such: "), "{}", said.stderr);
}
