//! Tests of judges, retrospectors and selections with a policy that records its requests.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod ask;
mod baseline;
mod combine;
mod config;
mod consistent;
mod contract;
mod http;
mod http_config;
mod http_tls;
mod method_config;
mod prompts;
mod self_judge;
mod self_retrospector;
mod server;
mod stub;
mod support;
