//! One look at a Go process's MemStats over HTTP, bounded in time and in size.

use std::io::{self, Read};
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::LOCATION;
use ureq::tls::{RootCerts, TlsConfig};

use super::Reading;
use super::endpoint::{Endpoint, Page};
use super::memstats;
use super::profile::{self, Profile};
use crate::units::{Bytes, Nanos};

/// For everything from the connection to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// A profile holds one record for each place in the program that allocates: some megabytes at most.
const MAX_BODY: u64 = 64 << 20;

/// The client, and which of the pages was there.
pub struct Client {
    agent: Agent,
    endpoint: Endpoint,
    known: Option<usize>,
}

/// What one page gave.
enum Tried {
    Read(Reading),
    /// 404: perhaps another page is there.
    Absent,
    Failed(String),
}

impl Client {
    pub fn new(endpoint: Endpoint) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // Root does not let a target lead it elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("memtrace/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build()
            .new_agent();
        Self {
            agent,
            endpoint,
            known: None,
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// What went wrong, in words; the server's own are not escaped.
    pub fn read(&mut self) -> Result<Reading, String> {
        let first = self.known.unwrap_or(0);
        let mut absent = Vec::new();
        for (index, (page, url)) in self.endpoint.pages.iter().enumerate().skip(first) {
            match self.page(*page, url) {
                Tried::Read(reading) => {
                    self.known = Some(index);
                    return Ok(reading);
                }
                Tried::Absent => absent.push(url.as_str()),
                Tried::Failed(why) => return Err(format!("{url}: {why}")),
            }
        }
        self.known = None;
        Err(format!(
            "{}: not there (404): does the program import net/http/pprof or expvar, and serve them here?",
            absent.join(", ")
        ))
    }

    fn page(&self, page: Page, url: &str) -> Tried {
        let mut response = match self.agent.get(url).call() {
            Ok(response) => response,
            Err(error) => return Tried::Failed(in_words(&error)),
        };
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION);
            let to = to.map_or_else(
                || "nowhere".to_owned(),
                |to| String::from_utf8_lossy(to.as_bytes()).into_owned(),
            );
            return Tried::Failed(format!(
                "redirects ({}) to {to}, which is not followed: give that address if it is the program's own",
                status.as_u16()
            ));
        }
        match status.as_u16() {
            200 => {}
            404 => return Tried::Absent,
            401 | 403 => {
                return Tried::Failed(format!("refused ({}): it wants a login", status.as_u16()));
            }
            code => return Tried::Failed(format!("answered with status {code}")),
        }
        let body = response.body_mut().with_config().limit(MAX_BODY).reader();
        let mut body = Watched {
            body,
            problem: None,
        };
        let read = match page {
            Page::Heap => {
                profile::read(&mut body).map(|Profile { stats, in_use }| Reading { stats, in_use })
            }
            Page::Vars => memstats::from_vars(&mut body).map(|stats| Reading {
                stats,
                in_use: None,
            }),
        };
        match (read, body.problem) {
            (Ok(reading), _) => Tried::Read(reading),
            (Err(_), Some(problem)) => Tried::Failed(problem),
            (Err(why), None) => Tried::Failed(format!("what it sent is of no use: {why}")),
        }
    }
}

/// Keeps what the client has to say of an error, which a reader can only pass on as it is.
struct Watched<R> {
    body: R,
    problem: Option<String>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).map_err(|error| {
            let kind = error.kind();
            let inner = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<ureq::Error>());
            self.problem = Some(match inner {
                Some(inner) => in_words(inner),
                None => format!("it broke off: {error}"),
            });
            io::Error::from(kind)
        })
    }
}

/// TLS fails for its certificate, as a rule.
fn untrusted(error: impl std::fmt::Display) -> String {
    format!(
        "no secure connection: {error}; the certificate of its authority can be given by \
         SSL_CERT_FILE=FILE (behind sudo)"
    )
}

fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!(
            "no whole answer within {}",
            Nanos(TIMEOUT.as_nanos() as u64)
        ),
        ureq::Error::BodyExceedsLimit(_) => {
            format!(
                "it sends more than {}, which is no profile",
                Bytes(MAX_BODY)
            )
        }
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there (connection refused)".to_owned()
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => untrusted(error),
        ureq::Error::Io(error) => format!("no answer: {error}"),
        ureq::Error::Rustls(error) => untrusted(error),
        error => format!("no answer that is HTTP: {error}"),
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
