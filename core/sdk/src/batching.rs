//! Batching of requests that a component has open at the same time, for example by `try_join`: they cross in one
//! `together` request, so that the host's policy can batch them. A host without that feature is asked one by one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures::channel::oneshot;

use crate::current::HostHandle;
use crate::error::RemoteError;
use crate::message::{Blob, Message};
use crate::messages::{AnswerMessage, AnswersMessage, QuestionMessage, QuestionsMessage};

/// Name of the batch method, and of the host's feature.
pub const TOGETHER: &str = "together";

/// Whether the host has the feature [`TOGETHER`].
static SUPPORTED: AtomicBool = AtomicBool::new(false);

/// Reads the host's features, a JSON list of names.
pub(crate) fn set_host_features(features: &str) {
    let features: Vec<String> = serde_json::from_str(features).unwrap_or_default();
    SUPPORTED.store(features.iter().any(|name| name == TOGETHER), Ordering::Relaxed);
}

/// The open requests of one call, and the executor of its component's future.
pub(crate) struct RequestBatcher {
    host: HostHandle,
    waker: Waker,
    open: Mutex<Vec<Request>>,
}

struct Request {
    method: &'static str,
    request: Message,
    answer: oneshot::Sender<Result<Message, RemoteError>>,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl RequestBatcher {
    /// A batcher for a call on this thread.
    pub(crate) fn new(host: &HostHandle) -> Self {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        Self { host: host.clone(), waker, open: Mutex::default() }
    }

    /// Polls a component's future on this thread until it completes; whenever it is pending, the open requests are
    /// sent to the host.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let (mut work, mut context) = (pin!(work), Context::from_waker(&self.waker));
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return done;
            }
            match std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner)) {
                open if open.is_empty() => thread::park(),
                open => self.answer(open),
            }
        }
    }

    /// Sends a request, in one batch with all others that are opened before the future is pending.
    pub(crate) async fn ask(&self, method: &'static str, request: Message) -> Result<Message, RemoteError> {
        // Another executor, such as a runtime that the component started, would wait for ever.
        if !poll_fn(|context| Poll::Ready(self.waker.will_wake(context.waker()))).await {
            return self.host.ask(method, &request);
        }
        let (answer, answered) = oneshot::channel();
        let question = Request { method, request, answer };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(question);
        answered.await.unwrap_or_else(|_| Err(RemoteError::failed("a question was left without an answer")))
    }

    fn answer(&self, open: Vec<Request>) {
        let (senders, asked): (Vec<_>, Vec<_>) =
            open.into_iter().map(|it| (it.answer, (it.method.to_owned(), it.request))).unzip();
        let replies = if asked.len() > 1 && SUPPORTED.load(Ordering::Relaxed) {
            self.all(asked)
        } else {
            asked.iter().map(|(method, request)| self.host.ask(method, request)).collect()
        };
        for (sender, reply) in senders.into_iter().zip(replies) {
            // Whoever asked may have lost interest.
            let _ = sender.send(reply);
        }
    }

    fn all(&self, asked: Vec<(String, Message)>) -> Vec<Result<Message, RemoteError>> {
        let count = asked.len();
        let reply = questions_message(asked).and_then(|request| self.host.ask(TOGETHER, &request));
        match reply.and_then(|reply| answers(&reply)) {
            Ok(answers) if answers.len() == count => answers,
            Ok(_) => vec![Err(RemoteError::failed("a question was left without an answer")); count],
            Err(error) => vec![Err(error); count],
        }
    }
}

/// Adds a message to the blobs: its JSON, then its own blobs. Returns how many those are.
fn add(blobs: &mut Vec<Blob>, message: Message) -> usize {
    let count = message.blobs.len();
    blobs.push(Blob::Bytes(message.json));
    blobs.extend(message.blobs);
    count
}

/// Takes a message out again.
fn take(blobs: &mut impl Iterator<Item = Blob>, count: usize) -> Result<Message, RemoteError> {
    let lacks = || RemoteError::failed("questions that are asked together lack a blob");
    let json = blobs.next().ok_or_else(lacks)?.into_bytes();
    let blobs: Vec<Blob> = blobs.take(count).collect();
    if blobs.len() < count { Err(lacks()) } else { Ok(Message { json, blobs }) }
}

/// Requests, each a method and its message, as one message.
fn questions_message(asked: Vec<(String, Message)>) -> Result<Message, RemoteError> {
    let mut blobs = Vec::new();
    let one = |(method, request)| QuestionMessage { method, blobs: add(&mut blobs, request) };
    let questions = asked.into_iter().map(one).collect();
    Message::new(&QuestionsMessage { questions }, blobs)
}

/// The requests of a `together` message, each a method and its message.
///
/// # Errors
/// A message that lacks blobs.
pub fn questions(message: &Message) -> Result<Vec<(String, Message)>, RemoteError> {
    let mut blobs = message.blobs.iter().cloned();
    let question = |it: QuestionMessage| Ok((it.method, take(&mut blobs, it.blobs)?));
    message.read::<QuestionsMessage>()?.questions.into_iter().map(question).collect()
}

/// Reply to `together`, in the order of the requests.
pub fn answers_message(answers: Vec<Result<Message, RemoteError>>) -> Result<Message, RemoteError> {
    let mut blobs = Vec::new();
    let one = |answer| match answer {
        Ok(reply) => AnswerMessage { error: None, blobs: add(&mut blobs, reply) },
        Err(error) => AnswerMessage { error: Some(error), blobs: 0 },
    };
    let answers = answers.into_iter().map(one).collect();
    Message::new(&AnswersMessage { answers }, blobs)
}

/// The answers of a reply to `together`.
fn answers(message: &Message) -> Result<Vec<Result<Message, RemoteError>>, RemoteError> {
    let mut blobs = message.blobs.iter().cloned();
    let answer = |it: AnswerMessage| match it.error {
        Some(error) => Ok(Err(error)),
        None => take(&mut blobs, it.blobs).map(Ok),
    };
    message.read::<AnswersMessage>()?.answers.into_iter().map(answer).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    fn message(json: &str, blobs: &[&[u8]]) -> Message {
        let blobs = blobs.iter().map(|bytes| Blob::Bytes(bytes.to_vec())).collect();
        Message { json: json.into(), blobs }
    }

    fn shape(message: &Message) -> (&[u8], Vec<&[u8]>) {
        (&message.json, message.blobs.iter().map(Blob::bytes).collect())
    }

    #[test]
    fn questions_and_answers_come_out_as_they_went_in() {
        let asked = vec![
            ("score".to_owned(), message("1", &[b"a", b""])),
            ("generate".to_owned(), message("{}", &[])),
            ("score".to_owned(), message("null", &[b"c"])),
        ];
        let back = questions(&questions_message(asked.clone()).unwrap()).unwrap();
        for (back, asked) in back.iter().zip(&asked) {
            assert_eq!((&back.0, shape(&back.1)), (&asked.0, shape(&asked.1)));
        }
        let error = RemoteError::new("bad_input", "too long");
        let given = vec![Ok(message("2", &[b"x"])), Err(error.clone()), Ok(message("3", &[]))];
        let back = answers(&answers_message(given).unwrap()).unwrap();
        assert_eq!(shape(back[0].as_ref().unwrap()), (&b"2"[..], vec![&b"x"[..]]));
        assert_eq!(back[1].as_ref().unwrap_err(), &error);
        assert_eq!(shape(back[2].as_ref().unwrap()), (&b"3"[..], vec![]));
    }

    #[test]
    fn a_message_that_lacks_blobs_is_an_error() {
        let mut whole = questions_message(vec![("score".to_owned(), message("1", &[b"a", b"b"]))]).unwrap();
        while whole.blobs.pop().is_some() {
            assert!(questions(&whole).unwrap_err().message.contains("lack a blob"));
        }
    }
}
