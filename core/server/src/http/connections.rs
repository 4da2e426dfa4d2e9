//! The open connections of a server: at most so many, shared among addresses.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Address that requests are counted by: an IPv4 address, or the /64 network of an IPv6 address, since a host has all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    /// The origin of a request that came through no socket.
    pub(crate) const INSIDE: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

    pub(crate) fn new(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

/// Registry of open connections. A new connection beyond the limit takes the place of one that waits for its client: the
/// oldest of the address with the most connections. Connections whose request is being answered keep their places.
pub(crate) struct Connections {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// By number, so that the oldest is first.
    open: BTreeMap<u64, Open>,
}

struct Open {
    origin: Origin,
    /// Requests of this connection that are being answered.
    answering: usize,
    give_way: CancellationToken,
}

/// An open connection; dropping it frees its place.
pub(crate) struct Connection {
    peer: Peer,
    give_way: CancellationToken,
}

/// The connection of a request, among the request's extensions.
#[derive(Clone)]
pub(crate) struct Peer {
    number: u64,
    origin: Origin,
    connections: Arc<Connections>,
}

/// Keeps a connection from being closed for another while its request is answered.
pub(crate) struct Answering(Peer);

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection; `None` where all places belong to requests that are being answered.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Connection> {
        let mut state = self.state();
        if state.open.len() >= self.most {
            let number = state.to_close()?;
            state.open.remove(&number)?.give_way.cancel();
        }
        let (number, origin, give_way) = (state.next, Origin::new(address), CancellationToken::new());
        state.next += 1;
        state.open.insert(number, Open { origin, answering: 0, give_way: give_way.clone() });
        Some(Connection { peer: Peer { number, origin, connections: Arc::clone(self) }, give_way })
    }
}

impl State {
    /// The oldest waiting connection of the address with the most connections.
    fn to_close(&self) -> Option<u64> {
        let mut of_address: HashMap<Origin, usize> = HashMap::new();
        for open in self.open.values() {
            *of_address.entry(open.origin).or_default() += 1;
        }
        let waiting = self.open.iter().filter(|(_, open)| open.answering == 0);
        // Of equals, `min_by_key` takes the first, which is the oldest.
        let first = waiting.min_by_key(|(_, open)| std::cmp::Reverse(of_address.get(&open.origin)));
        first.map(|(number, _)| *number)
    }
}

impl Connection {
    pub(crate) fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// Waits until the connection is to be closed for another.
    pub(crate) async fn gives_way(&self) {
        self.give_way.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.peer.connections.state().open.remove(&self.peer.number);
    }
}

impl Peer {
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn answering(self) -> Answering {
        self.count(|answering| answering + 1);
        Answering(self)
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        if let Some(open) = self.connections.state().open.get_mut(&self.number) {
            open.answering = change(open.answering);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.count(|answering| answering.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn closed(connection: &Connection) -> bool {
        connection.give_way.is_cancelled()
    }

    #[test]
    fn the_oldest_waiting_connection_of_the_address_with_most_gives_way() {
        let connections = Connections::new(4);
        let open = |last| connections.admit(address(last)).unwrap();
        let (guest, first, second, third) = (open(1), open(2), open(2), open(2));
        let answering = first.peer().answering();
        let newcomer = open(3);
        assert!([&guest, &first, &third, &newcomer].iter().all(|kept| !closed(kept)));
        assert!(closed(&second), "the first of the many is being answered");
        drop(answering);
        let another = open(3);
        assert!(closed(&first) && !closed(&guest) && !closed(&another));
        drop((guest, third));
        let _room = (open(4), open(5));
        assert!(!closed(&newcomer) && !closed(&another), "there was room again");
    }

    #[test]
    fn requests_that_are_answered_keep_their_places() {
        let connections = Connections::new(1);
        let only = connections.admit(address(1)).unwrap();
        let answering = only.peer().answering();
        assert!(connections.admit(address(2)).is_none());
        drop(answering);
        assert!(connections.admit(address(2)).is_some() && closed(&only));
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin_and_a_mapped_address_is_its_own() {
        let origin = |text: &str| Origin::new(text.parse().unwrap());
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff::7"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), Origin::new(address(1)));
        assert_ne!(Origin::new(address(1)), Origin::new(address(2)));
    }
}
