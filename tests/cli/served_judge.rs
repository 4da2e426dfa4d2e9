//! A run that is judged by `isr serve`, over a line that fails in every way.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::serve::Serving;
use crate::support::{isr_line, playground, with_judge};

/// Stands between judge and server. Every second request goes through; of the others, each meets the next
/// fault.
struct BadLine {
    address: String,
    /// Replies that were cut on their way back.
    cut: Arc<AtomicUsize>,
}

impl BadLine {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (server, cut) = (server.to_owned(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&cut);
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let (server, cut) = (server.clone(), Arc::clone(&counted));
                // Whoever has gone away is not served.
                thread::spawn(move || serve(stream.unwrap(), index, &server, &cut).ok());
            }
        });
        Self { address, cut }
    }
}

fn serve(mut stream: TcpStream, index: usize, server: &str, cut: &AtomicUsize) -> std::io::Result<()> {
    let request = request(&mut stream)?;
    let fault = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    };
    let reply = match (index % 2, index / 2 % 5) {
        (1, _) => forward(&request, server)?,
        (_, 0) => fault("500 Oops", "{}"),
        (_, 1) => fault("429 Too Many\r\nRetry-After: 0", r#"{"error": {"message": "slow down"}}"#),
        (_, 2) => fault("200 OK", "<html>welcome to the hotel</html>"),
        (_, 3) => Vec::new(),
        _ => {
            let whole = forward(&request, server)?;
            cut.fetch_add(1, Ordering::SeqCst);
            whole[..whole.len() - 20].to_vec()
        }
    };
    stream.write_all(&reply)
}

/// One request, which is told to be the last of its connection.
fn request(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
                break;
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes.splice(line..line, b"Connection: close\r\n".iter().copied());
    Ok(bytes)
}

fn forward(request: &[u8], server: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(request)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

/// A run of one iteration with a judge at an address. The model says anything, so that any vowel decides.
fn run(folder: &Path, out: &str, address: &str) {
    let judge = format!(
        "type = 'http'\nbase_url = 'http://{address}/v1'\nmodel = 'tiny'\nframes = {{ count = 2 }}\n\
         choices = ['a', 'e']\npattern = '[ae]'\nmax_tokens = 24\nattempts = 4\nretry_temperature = 1.0\n\
         retries = 60\nbackoff_s = 0.001\nmax_wait_s = 1.0\nuse_context = false\norders = 'given'\nprompt = '{{{{ question }}}} {{{{ first }}}} or {{{{ second }}}}?'\n"
    );
    with_judge(folder, out, &judge);
    isr_line(folder, &format!("run {out}.toml -q --out {out} -s loop.iterations=1")).result();
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("iteration-01").join(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Completions that the server has given.
fn completions(serving: &Serving) -> usize {
    let metrics = serving.send("GET", "/metrics", "").1;
    let name = "isr_http_requests_total{path=\"/v1/chat/completions\",status=\"200\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_bad_line_to_the_judge_costs_time_and_changes_no_verdict() {
    let folder = playground();
    let path = folder.path();
    let serving = Serving::start(path, &[]);
    run(path, "good", &serving.address);
    let asked = completions(&serving);
    let verdicts = lines(&path.join("good"), "verdicts.jsonl");
    let judged: BTreeSet<&str> = verdicts.iter().map(|line| line["sample"].as_str().unwrap()).collect();
    assert_eq!(judged.len(), verdicts.len(), "each sample once");
    let quarantined = lines(&path.join("good"), "quarantine.jsonl");
    let different = |line: &&Value| line["responses"][0]["text"] != line["responses"][1]["text"];
    let pairs = lines(&path.join("good"), "responses.jsonl").iter().filter(different).count();
    assert!(pairs > 6, "{pairs}");
    assert_eq!(verdicts.len() + quarantined.len(), pairs, "{quarantined:?}");
    assert!(asked >= verdicts.len());

    let line = BadLine::to(&serving.address);
    run(path, "bad", &line.address);
    for name in ["verdicts.jsonl", "quarantine.jsonl", "pairs.jsonl"] {
        assert_eq!(lines(&path.join("bad"), name), lines(&path.join("good"), name), "{name}");
    }
    let cut = line.cut.load(Ordering::SeqCst);
    assert!(cut > 0);
    assert_eq!(completions(&serving), 2 * asked + cut, "asked again only where a reply was lost");
}
