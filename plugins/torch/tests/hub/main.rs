//! Models from a server on loopback that speaks the hub's API.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod downloads;
mod offline;
mod refusals;
mod server;

use std::path::Path;

use isr_torch::hub::Hub;

use crate::server::Server;

/// The settings of a user of that server.
fn hub(server: &Server, cache: &Path) -> Hub {
    Hub {
        endpoint: server.address(),
        cache: Some(cache.to_owned()),
        token: None,
        offline: false,
        progress: false,
        attempts: 3,
        pause: std::time::Duration::from_millis(2),
    }
}
