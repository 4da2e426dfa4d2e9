//! Tests of judges on a policy that records what it is asked.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod ask;
mod baseline;
mod combine;
mod config;
mod contract;
mod fake;
mod http;
mod http_config;
mod http_tls;
mod server;
mod stub;
