//! `host LIBRARY JUDGE`: opens a library as the program of version 0.1.0 does, and has its judge judge a case.
//! Prints what the judge asked for, a line a question, and the verdict.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use isr_plugin::{Fingerprint, FinishReason, Frames, Response, Scene, TokenLogProbs};
use isr_plugin::host::{HostSide, Library};
use isr_plugin::wire::{JudgeForm, Message, Packing, RemoteError, ScoreForm};

/// Answers for a policy that finds all words alike.
struct Alike;

impl HostSide for Alike {
    fn wants(&self, _: u8) -> bool {
        false
    }
    fn log(&self, _: u8, _: &str, _: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
    fn ask(&self, method: &str, request: &Message) -> Result<Message, RemoteError> {
        println!("asked: {method}");
        match method {
            "generate" => Message::new(&[response("A")], Vec::new()),
            "score" => {
                let ScoreForm { continuations, .. } = request.form()?;
                let alike = TokenLogProbs { token_ids: vec![65], logprobs: vec![-0.5] };
                Message::new(&vec![alike; continuations.len()], Vec::new())
            }
            _ => Err(RemoteError::failed(format!("`{method}` cannot be asked for in this call"))),
        }
    }
}

fn response(text: &str) -> Response {
    let (token_ids, logprobs) = (vec![1], vec![-1.0]);
    let policy = Fingerprint::of("a policy");
    Response { text: text.to_owned(), token_ids, logprobs, finish_reason: FinishReason::Stop, policy }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, library, judge] = &arguments[..] else { return Err("usage: host LIBRARY JUDGE".into()) };
    let library = Library::open(Path::new(library))?;
    let instance = library.construct("judge", judge, "{}", Alike)?;
    let frames = Frames { width: 1, height: 1, timestamps: vec![0.0], rgb: vec![1, 2, 3] };
    let scene = Scene { video: "a.mp4".into(), frames: Arc::new(frames), features: None };
    let mut packing = Packing::default();
    let form = JudgeForm {
        scene: packing.scene(&scene, false),
        instruction: "what is seen?".to_owned(),
        context: None,
        first: response("a red bar."),
        second: response("a blue bar."),
        seed: 7,
    };
    let reply = instance.call("judge", &Message::new(&form, packing.blobs)?, Alike)?;
    println!("{}", String::from_utf8(reply.json)?);
    Ok(())
}
