//! Listening, graceful shutdown and authentication, shared by the HTTP servers.
//!
//! A server on loopback can be reached by every program of the machine, browsers included, and browsers run pages of
//! strangers. [`Auth::Loopback`] refuses requests whose `Host` is another machine, which stops DNS rebinding. A server that
//! changes state must also require a content type that needs a CORS preflight, such as JSON.

mod auth;

use std::future::IntoFuture;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use auth::{Auth, AuthError};

/// Reason for which a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address is in use, or not an address of this machine.
    #[error("cannot listen on {address}: {source}; choose another --host or --port (0 takes a free one)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The address can be reached from other machines, and no token is required.
    #[error(
        "{0} can be reached from other machines, so a token is needed: put one into an environment variable \
         and name it with --token-env"
    )]
    Open(IpAddr),
    /// The environment variable for the token is unset or blank.
    #[error("environment variable {0} is not set or empty; set it to the token that clients must send")]
    NoToken(String),
}

/// Binds a listener to an address of this machine. Port 0 takes a free port.
///
/// # Errors
/// [`WebError::Open`] for an address beyond loopback, unless `auth` requires a token;
/// [`WebError::Listen`] where the system refuses.
pub async fn listen(host: IpAddr, port: u16, auth: &Auth) -> Result<TcpListener, WebError> {
    if !host.is_loopback() && matches!(auth, Auth::Loopback) {
        return Err(WebError::Open(host));
    }
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.map_err(|source| WebError::Listen { address, source })
}

/// Serves `router` until `stop` is cancelled, then accepts no connection and waits up to `grace` for requests in flight. Returns
/// true if all of them completed.
///
/// # Errors
/// An I/O error of the listener.
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
