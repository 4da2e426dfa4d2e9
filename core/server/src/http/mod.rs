//! What the HTTP servers of this project share: listening, stopping, and who may ask.
//!
//! A server on loopback is open to all programs of this machine, and so to the browser on it, which runs
//! other people's pages. [`Auth::Loopback`] refuses requests that name another host than this machine: a
//! page whose name was pointed here (DNS rebinding) cannot read answers. Servers that change something must
//! also insist on a content type that pages cannot send elsewhere without asking, as JSON is.

mod auth;

use std::future::IntoFuture;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use auth::{Auth, AuthError};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address is taken, or not one of this machine.
    #[error("cannot listen on {address}: {source}; choose another --host or --port (0 takes a free one)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Others than this machine could ask, and nothing tells them apart.
    #[error(
        "{0} can be reached from other machines, so a token is needed: put one into an environment variable \
         and name it with --token-env"
    )]
    Open(IpAddr),
    /// The variable that should hold the token does not.
    #[error("environment variable {0} is not set or empty; set it to the token that clients must send")]
    NoToken(String),
}

/// Listens on an address of this machine.
///
/// # Errors
/// [`WebError::Open`] for an address that other machines reach, unless the guard asks for a token;
/// [`WebError::Listen`] where the system refuses.
pub async fn listen(host: IpAddr, port: u16, auth: &Auth) -> Result<TcpListener, WebError> {
    if !host.is_loopback() && matches!(auth, Auth::Loopback) {
        return Err(WebError::Open(host));
    }
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.map_err(|source| WebError::Listen { address, source })
}

/// Serves until `stop` is cancelled, then takes no more requests and gives those under way `grace` to end.
/// Returns whether all did.
///
/// # Errors
/// The system's, where it accepts no more connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
) -> io::Result<bool> {
    let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        outcome = server.into_future() => outcome.map(|()| true),
        () = deadline => Ok(false),
    }
}
