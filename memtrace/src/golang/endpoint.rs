//! Where a Go process serves its MemStats: what was typed, made into addresses to ask.

use std::fmt;
use std::str::FromStr;

use ureq::http::Uri;

/// What is served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// net/http/pprof's heap profile as text, which ends with MemStats.
    Heap,
    /// expvar's JSON.
    Vars,
}

/// The addresses to ask, in this order until one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As typed.
    pub typed: String,
    pub pages: Vec<(Page, String)>,
}

/// Why it is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// No http or https.
    Scheme(String),
    NoHost,
    /// It would be seen by whoever lists processes.
    Password,
    Invalid(String),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(f, "{scheme:?} is neither http nor https"),
            Self::NoHost => {
                f.write_str("it names no host: HOST:PORT or http://HOST:PORT/PATH is wanted")
            }
            Self::Password => f.write_str(
                "a user name or password in it would be seen by everyone who lists processes, and is not supported",
            ),
            Self::Invalid(why) => write!(f, "{why}: HOST:PORT or http://HOST:PORT/PATH is wanted"),
        }
    }
}

impl std::error::Error for EndpointError {}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(typed: &str) -> Result<Self, EndpointError> {
        let text = match typed.split_once("://") {
            Some(("http" | "https", _)) => typed.to_owned(),
            Some((scheme, _)) => return Err(EndpointError::Scheme(scheme.to_owned())),
            None => format!("http://{typed}"),
        };
        let uri: Uri = text
            .parse()
            .map_err(|error| EndpointError::Invalid(format!("{error}")))?;
        let authority = uri.authority().ok_or(EndpointError::NoHost)?;
        if authority.host().is_empty() {
            return Err(EndpointError::NoHost);
        }
        if authority.as_str().contains('@') {
            return Err(EndpointError::Password);
        }
        let scheme = uri.scheme_str().unwrap_or("http");
        let at = |path: &str| format!("{scheme}://{authority}{path}");
        let path = uri.path().trim_end_matches('/');
        let heap = |base: &str| (Page::Heap, at(&format!("{base}/heap?debug=1")));
        let vars = |base: &str| (Page::Vars, at(&format!("{base}/vars")));
        let pages = if path.ends_with("/pprof/heap") {
            let query = with_debug(uri.query());
            vec![(Page::Heap, at(&format!("{path}?{query}")))]
        } else if path.ends_with("/vars") {
            let query = uri
                .query()
                .map(|query| format!("?{query}"))
                .unwrap_or_default();
            vec![(Page::Vars, at(&format!("{path}{query}")))]
        } else if path.ends_with("/pprof") {
            vec![heap(path)]
        } else {
            let base = path.strip_suffix("/debug").unwrap_or(path);
            vec![
                heap(&format!("{base}/debug/pprof")),
                vars(&format!("{base}/debug")),
            ]
        };
        Ok(Self {
            typed: typed.to_owned(),
            pages,
        })
    }
}

/// The query with `debug=1`, without which the profile is not text.
fn with_debug(query: Option<&str>) -> String {
    let others = query
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty() && !part.starts_with("debug="));
    std::iter::once("debug=1")
        .chain(others)
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(typed: &str) -> Vec<String> {
        let endpoint: Endpoint = typed.parse().unwrap();
        endpoint.pages.into_iter().map(|(_, url)| url).collect()
    }

    #[test]
    fn a_host_and_port_are_enough() {
        for typed in [
            "localhost:6060",
            "http://localhost:6060",
            "http://localhost:6060/",
            "localhost:6060/debug",
            "http://localhost:6060/debug/",
        ] {
            assert_eq!(
                pages(typed),
                [
                    "http://localhost:6060/debug/pprof/heap?debug=1",
                    "http://localhost:6060/debug/vars"
                ],
                "{typed}"
            );
        }
        assert_eq!(
            pages("https://[::1]:6060/admin")[1],
            "https://[::1]:6060/admin/debug/vars"
        );
    }

    #[test]
    fn a_whole_url_is_asked_for_alone() {
        assert_eq!(
            pages("http://h:1/debug/pprof/heap"),
            ["http://h:1/debug/pprof/heap?debug=1"]
        );
        assert_eq!(
            pages("http://h:1/x/debug/pprof/"),
            ["http://h:1/x/debug/pprof/heap?debug=1"]
        );
        assert_eq!(
            pages("http://h:1/debug/pprof/heap?gc=1&debug=0"),
            ["http://h:1/debug/pprof/heap?debug=1&gc=1"]
        );
        assert_eq!(
            pages("http://h:1/debug/vars?k=v"),
            ["http://h:1/debug/vars?k=v"]
        );
    }

    #[test]
    fn what_is_no_address_is_told() {
        let why = |typed: &str| typed.parse::<Endpoint>().unwrap_err().to_string();
        assert!(why("ftp://h/").contains("\"ftp\" is neither"));
        assert!(why("file:///etc/passwd").contains("\"file\" is neither"));
        assert!(why("http://root:secret@h:1/").contains("everyone who lists processes"));
        assert!(!why("http://root:secret@h:1/").contains("secret"));
        for typed in ["", "http://", "http://:6060", "a b", "http:///x"] {
            assert!(
                why(typed).contains("HOST:PORT"),
                "{typed:?}: {}",
                why(typed)
            );
        }
    }
}
