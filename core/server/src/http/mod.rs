//! Listening, graceful shutdown and authentication, shared by the HTTP servers.
//!
//! A server on loopback can be reached by every program of the machine, browsers included, and browsers run pages of
//! strangers. [`Auth::Loopback`] refuses requests whose `Host` is another machine, which stops DNS rebinding. A server that
//! changes state must also require a content type that needs a CORS preflight, such as JSON.
//!
//! [`ConnectionLimits`] bound the open connections and the time that a request's head may take, so that clients that open
//! connections and send nothing lock nobody out.

mod auth;
mod connections;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::http::connections::Connection;

pub use auth::{Auth, AuthError};
pub(crate) use connections::{Answering, Connections, Origin, Peer};

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

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Open connections. One more takes the place of a connection that waits for its client. Default: a half of the file
    /// descriptors that the process may open, at most 1024.
    pub open: usize,
    /// Time for the head of a request, and for the next request of a connection. Default 20 s.
    pub head: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = descriptors.map_or(usize::MAX, |most| usize::try_from(most / 2).unwrap_or(usize::MAX));
        Self { open: half.clamp(16, 1024), head: Duration::from_secs(20) }
    }
}

/// Serves `router` until `stop` is cancelled, then accepts no connection and waits up to `grace` for requests in flight. Returns
/// true if all of them completed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: CancellationToken,
    grace: Duration,
) -> bool {
    let (connections, tasks) = (Connections::new(limits.open), TaskTracker::new());
    let cut = CancellationToken::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, address)) => {
                if let Some(connection) = connections.admit(address.ip()) {
                    let (router, stop, cut) = (router.clone(), stop.clone(), cut.clone());
                    tasks.spawn(attend(stream, router, connection, limits.head, stop, cut));
                }
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    let completed = tokio::time::timeout(grace, tasks.wait()).await.is_ok();
    cut.cancel();
    completed
}

/// Pause after an error that another attempt would meet again, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection until it ends, gives way to another, or is cut.
async fn attend(
    stream: TcpStream,
    router: Router,
    connection: Connection,
    head: Duration,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    let peer = connection.peer();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = false;
    loop {
        tokio::select! {
            outcome = served.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = connection.gives_way() => return,
            () = cut.cancelled() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}
