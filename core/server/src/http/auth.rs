//! Authentication of requests.

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, Uri};
use isr_api::Fingerprint;

use crate::http::WebError;

/// Which requests a server accepts.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Requests whose `Host` header names this machine: `localhost` or a loopback address. For servers that listen on
    /// loopback.
    Loopback,
    /// Requests with a bearer token of this BLAKE3 digest. Comparing digests keeps the comparison's time independent of the
    /// token.
    Token(Fingerprint),
}

/// Reason for which a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The bearer token is missing or wrong.
    #[error("send the token of this server as `Authorization: Bearer TOKEN`")]
    Token,
    /// The `Host` header names another machine, as in a DNS-rebinding attack.
    #[error("this server is for this machine alone; address it as 127.0.0.1 or localhost")]
    Host,
}

impl Auth {
    /// Token authentication with the value of an environment variable; [`Auth::Loopback`] for `None`.
    ///
    /// # Errors
    /// [`WebError::NoToken`] where the variable is unset or blank.
    pub fn from_env(variable: Option<&str>) -> Result<Self, WebError> {
        let Some(variable) = variable else {
            return Ok(Self::Loopback);
        };
        match std::env::var(variable) {
            Ok(token) if !token.trim().is_empty() => Ok(Self::token(&token)),
            _ => Err(WebError::NoToken(variable.to_owned())),
        }
    }

    /// Token authentication. White space around `token` is ignored.
    pub fn token(token: &str) -> Self {
        Self::Token(Fingerprint::of(token.trim()))
    }

    /// Checks a request's headers.
    ///
    /// # Errors
    /// The reason for refusing it, to be sent to the client.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), AuthError> {
        match self {
            Self::Loopback if is_this_machine(uri, headers) => Ok(()),
            Self::Loopback => Err(AuthError::Host),
            Self::Token(digest)
                if bearer(headers).is_some_and(|token| Fingerprint::of(token) == *digest) =>
            {
                Ok(())
            }
            Self::Token(_) => Err(AuthError::Token),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the request names this machine by a name that DNS cannot redirect.
fn is_this_machine(uri: &Uri, headers: &HeaderMap) -> bool {
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let Some(host) = named.or_else(|| uri.authority().map(|authority| authority.as_str())) else {
        return false;
    };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(auth: &Auth, header: &'static str, value: &'static str) -> Result<(), AuthError> {
        let headers = HeaderMap::from_iter([(header.parse().unwrap(), value.parse().unwrap())]);
        auth.check(&Uri::from_static("/"), &headers)
    }

    #[test]
    fn loopback_is_known_by_its_names_and_no_others() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.8.9.1", "[::1]:1", "[::1]"] {
            assert_eq!(check(&Auth::Loopback, "host", host), Ok(()), "{host}");
        }
        for host in ["example.com", "localhost.example.com:80", "10.0.0.1:8000", "127.0.0.1.nip.io", ""] {
            assert_eq!(check(&Auth::Loopback, "host", host), Err(AuthError::Host), "{host}");
        }
        assert_eq!(check(&Auth::Loopback, "accept", "*/*"), Err(AuthError::Host), "no host at all");
    }

    #[test]
    fn a_token_must_be_the_right_one() {
        let auth = Auth::token("s3cret\n");
        assert_eq!(check(&auth, "authorization", "Bearer s3cret"), Ok(()));
        assert_eq!(check(&auth, "authorization", "bearer  s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "s3cret", "Basic s3cret", "Bearer "] {
            assert_eq!(check(&auth, "authorization", wrong), Err(AuthError::Token), "{wrong}");
        }
        assert!(!format!("{auth:?}").contains("s3cret"));
    }

    #[test]
    fn a_variable_without_a_token_is_an_error_that_names_it() {
        assert!(matches!(Auth::from_env(None), Ok(Auth::Loopback)));
        let error = Auth::from_env(Some("ISR_WEB_NO_SUCH_TOKEN")).unwrap_err().to_string();
        assert!(error.starts_with("environment variable ISR_WEB_NO_SUCH_TOKEN is not set"), "{error}");
    }
}
