//! Requests to the hub.
//!
//! Redirects are followed here, so that the token goes to the hub alone: the stores of large files that it redirects to are
//! other hosts, and take signed URLs instead.

use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};
use url::{Origin, Url};

use super::error::FetchError;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 10;

/// Time limit for a connection, for the head of a response, and for each read of a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// Length of a list of files, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// A client of one hub.
pub(super) struct Client {
    agent: Agent,
    token: Option<String>,
    /// The only origin that gets the token.
    hub: Origin,
}

/// What the hub says about a file.
#[derive(Clone, Debug)]
pub(super) struct FileInfo {
    /// Entity tag: SHA-256 of a file in the store of large files, and the git blob's SHA-1 of another.
    pub(super) etag: String,
    /// Length in bytes, if known.
    pub(super) size: Option<u64>,
}

/// The bytes of a file from some place on.
pub(super) struct FileBytes {
    /// Place of the first byte in the file.
    pub(super) start: u64,
    /// Length of the whole file in bytes, if known.
    pub(super) size: Option<u64>,
    pub(super) body: Body,
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Result<Self, FetchError> {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("isr-torch/", env!("CARGO_PKG_VERSION")))
            // Lengths and digests are those of the files themselves.
            .accept_encoding("identity")
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE));
        Ok(Self { agent: config.build().into(), token, hub: parsed(endpoint)?.origin() })
    }

    /// The text at a URL of the hub.
    pub(super) fn text(&self, url: &str) -> Result<String, FetchError> {
        let (_, mut response) = self.get(url, None, |_, _| {})?;
        Ok(response.body_mut().with_config().limit(LONGEST_LIST).read_to_string()?)
    }

    /// What the hub says about the file at `url`. Its data are not read.
    pub(super) fn info(&self, url: &str) -> Result<FileInfo, FetchError> {
        // The hub's own responses have the tag, and redirect to a store that has others.
        let (mut linked, mut plain, mut size) = (None, None, None);
        let (_, response) = self.get(url, Some("bytes=0-0"), |is_hub, headers| {
            if is_hub {
                linked = text(headers, "x-linked-etag").or(linked.take());
                plain = text(headers, ETAG).or(plain.take());
                size = number(headers, "x-linked-size").or(size);
            }
        })?;
        let etag = linked.or(plain);
        let size = size.or_else(|| whole_size(&response));
        let etag = etag.ok_or(FetchError::NoTag)?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        Ok(FileInfo { etag, size })
    }

    /// The bytes of the file at `url` from `start` on, or from another place if the server does not do what it is asked.
    pub(super) fn bytes(&self, url: &str, start: u64) -> Result<FileBytes, FetchError> {
        let (_, response) = self.get(url, Some(&format!("bytes={start}-")), |_, _| {})?;
        let size = whole_size(&response);
        let start = match response.status().as_u16() {
            206 => range_start(response.headers()).ok_or(FetchError::BadRange)?,
            _ => 0,
        };
        Ok(FileBytes { start, size, body: response.into_body() })
    }

    /// Follows redirects to a response of success. `seen` gets the headers of each response, and whether it is the hub's.
    fn get(
        &self,
        url: &str,
        range: Option<&str>,
        mut seen: impl FnMut(bool, &HeaderMap),
    ) -> Result<(Url, Response<Body>), FetchError> {
        let mut url = parsed(url)?;
        for _ in 0..=MOST_REDIRECTS {
            let is_hub = url.origin() == self.hub;
            let mut request = self.agent.get(url.as_str());
            if let Some(range) = range {
                request = request.header(RANGE, range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call()?;
            seen(is_hub, response.headers());
            match response.status().as_u16() {
                200 | 206 => return Ok((url, response)),
                301 | 302 | 303 | 307 | 308 => {
                    let location = text(response.headers(), LOCATION).ok_or(FetchError::NoLocation)?;
                    url = url.join(&location).map_err(|_| FetchError::BadUrl(location))?;
                }
                status => return Err(FetchError::Status(status)),
            }
        }
        Err(FetchError::TooManyRedirects)
    }
}

fn parsed(url: &str) -> Result<Url, FetchError> {
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    parsed.ok_or_else(|| FetchError::BadUrl(url.to_owned()))
}

fn text(headers: &HeaderMap, name: impl ureq::http::header::AsHeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// First place of `Content-Range: bytes FIRST-LAST/TOTAL`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, CONTENT_RANGE)?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// Length of the whole file by a response's headers.
fn whole_size(response: &Response<Body>) -> Option<u64> {
    match response.status().as_u16() {
        206 => text(response.headers(), CONTENT_RANGE)?.rsplit_once('/')?.1.trim().parse().ok(),
        _ => number(response.headers(), "content-length"),
    }
}
