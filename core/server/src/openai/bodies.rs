//! Receipt of request bodies within a bounded amount of memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::http::Origin;
use crate::openai::error::ApiError;

/// Memory for bodies that are being received or evaluated. Where it runs out, a body that is still being received is given up:
/// the oldest of the address whose bodies take most.
pub(crate) struct Bodies {
    /// Largest body in bytes.
    longest: usize,
    /// Bytes of all bodies together.
    most: usize,
    /// Time limit for receiving a body.
    time: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// By number, so that the oldest is first.
    held: BTreeMap<u64, Held>,
}

struct Held {
    origin: Origin,
    bytes: usize,
    receiving: bool,
    give_up: CancellationToken,
}

/// A received body; dropping it frees its share of the memory.
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    _share: Share,
}

struct Share {
    number: u64,
    bodies: Arc<Bodies>,
}

impl Bodies {
    pub(crate) fn new(longest: usize, most: usize, time: Duration) -> Arc<Self> {
        Arc::new(Self { longest, most: most.max(longest), time, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives a body. `announced` is its length by the request's head.
    ///
    /// # Errors
    /// 413 for a body that is too long, 408 for one that is too slow, 429 where the memory is taken.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        body: Body,
        announced: Option<usize>,
        origin: Origin,
    ) -> Result<Received, ApiError> {
        if announced.is_some_and(|length| length > self.longest) {
            return Err(ApiError::too_large(self.longest));
        }
        let (share, give_up) = self.enter(origin);
        let received = give_up.run_until_cancelled(timeout(self.time, share.fill(body)));
        let bytes = received.await.ok_or_else(ApiError::crowded)?.map_err(|_| ApiError::too_slow())??;
        share.complete()?;
        Ok(Received { bytes, _share: share })
    }

    fn enter(self: &Arc<Self>, origin: Origin) -> (Share, CancellationToken) {
        let mut state = self.state();
        let (number, give_up) = (state.next, CancellationToken::new());
        state.next += 1;
        state.held.insert(number, Held { origin, bytes: 0, receiving: true, give_up: give_up.clone() });
        (Share { number, bodies: Arc::clone(self) }, give_up)
    }
}

impl State {
    fn bytes(&self) -> usize {
        self.held.values().map(|held| held.bytes).sum()
    }

    /// The oldest body that is being received of the address whose bodies take most.
    fn to_give_up(&self) -> Option<u64> {
        let mut of_address: HashMap<Origin, usize> = HashMap::new();
        for held in self.held.values() {
            *of_address.entry(held.origin).or_default() += held.bytes;
        }
        let receiving = self.held.iter().filter(|(_, held)| held.receiving && held.bytes > 0);
        // Of equals, `min_by_key` takes the first, which is the oldest.
        let first = receiving.min_by_key(|(_, held)| std::cmp::Reverse(of_address.get(&held.origin)));
        first.map(|(number, _)| *number)
    }
}

impl Share {
    async fn fill(&self, body: Body) -> Result<Vec<u8>, ApiError> {
        let (mut bytes, mut chunks) = (Vec::new(), body.into_data_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ApiError::bad(format!("the body is cut off: {error}")))?;
            if bytes.len() + chunk.len() > self.bodies.longest {
                return Err(ApiError::too_large(self.bodies.longest));
            }
            self.grow(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Takes `more` bytes of the memory, and gives up other bodies for them where needed.
    fn grow(&self, more: usize) -> Result<(), ApiError> {
        let mut state = self.bodies.state();
        if !state.held.contains_key(&self.number) {
            return Err(ApiError::crowded());
        }
        while state.bytes() + more > self.bodies.most {
            let given_up = state.to_give_up().and_then(|number| state.held.remove(&number));
            match given_up {
                Some(held) => held.give_up.cancel(),
                None => return Err(ApiError::crowded()),
            }
        }
        let own = state.held.get_mut(&self.number).ok_or_else(ApiError::crowded)?;
        own.bytes += more;
        Ok(())
    }

    /// From here on, the body keeps its memory.
    fn complete(&self) -> Result<(), ApiError> {
        let mut state = self.bodies.state();
        let own = state.held.get_mut(&self.number).ok_or_else(ApiError::crowded)?;
        own.receiving = false;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bodies.state().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn origin(last: u8) -> Origin {
        Origin::new(IpAddr::from([10, 0, 0, last]))
    }

    fn gave_up(share: &(Share, CancellationToken)) -> bool {
        share.1.is_cancelled()
    }

    #[test]
    fn the_oldest_unfinished_body_of_the_address_with_most_is_given_up() {
        let bodies = Bodies::new(60, 100, Duration::from_secs(3600));
        let enter = |last| bodies.enter(origin(last));
        let (guest, first, second) = (enter(1), enter(2), enter(2));
        for (share, bytes) in [(&guest, 20), (&first, 30), (&second, 40)] {
            share.0.grow(bytes).unwrap();
        }
        let newcomer = enter(3);
        newcomer.0.grow(40).unwrap();
        assert!(gave_up(&first) && !gave_up(&guest) && !gave_up(&second) && !gave_up(&newcomer));
        assert!(first.0.grow(1).is_err(), "it is told so");
        newcomer.0.complete().unwrap();
        second.0.complete().unwrap();
        // Whole bodies stay; the only one that is still coming goes.
        assert_eq!(enter(4).0.grow(60).err().unwrap().status, 429);
        assert!(gave_up(&guest) && !gave_up(&second) && !gave_up(&newcomer));
        drop((second, newcomer));
        enter(4).0.grow(60).unwrap();
    }

    #[tokio::test]
    async fn a_body_that_never_ends_gives_its_memory_to_others() {
        let bodies = Bodies::new(8, 10, Duration::from_secs(3600));
        let start = futures::stream::iter([Ok::<_, std::io::Error>("12345678")]);
        let endless = Body::from_stream(start.chain(futures::stream::pending()));
        let slow = tokio::spawn({
            let bodies = Arc::clone(&bodies);
            async move { bodies.receive(endless, None, origin(1)).await }
        });
        while bodies.state().bytes() < 8 {
            tokio::task::yield_now().await;
        }
        let whole = bodies.receive(Body::from("abcdef"), Some(6), origin(2)).await.unwrap();
        assert_eq!(whole.bytes, b"abcdef");
        assert_eq!(slow.await.unwrap().err().unwrap().status, 429);
        drop(whole);
        assert_eq!(bodies.state().held.len(), 0);
    }

    #[tokio::test]
    async fn a_body_that_is_too_slow_is_refused() {
        let bodies = Bodies::new(8, 8, Duration::from_millis(1));
        let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let error = bodies.receive(Body::from_stream(never), None, origin(1)).await.err().unwrap();
        assert_eq!(error.status, 408);
    }
}
