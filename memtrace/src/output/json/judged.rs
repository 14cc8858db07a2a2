//! The keys of what was recognised and judged.

use serde::Serialize;

use crate::runtime::{GivesBack, Origin, Runtime};
use crate::verdict::Verdict;

/// An allocator or runtime in the process.
#[derive(Serialize)]
pub(super) struct RuntimeRow<'a> {
    name: &'static str,
    version: Option<&'a str>,
    linkage: Option<&'a str>,
    gives_back: Option<&'static str>,
    settings: Vec<SettingRow<'a>>,
}

#[derive(Serialize)]
struct SettingRow<'a> {
    name: &'a str,
    value: &'a str,
    origin: &'static str,
}

impl<'a> RuntimeRow<'a> {
    pub(super) fn of(runtime: &'a Runtime) -> Self {
        Self {
            name: runtime.kind.name(),
            version: runtime.version.as_deref(),
            linkage: runtime.linkage.as_deref(),
            gives_back: match runtime.gives_back {
                GivesBack::Free => Some("MADV_FREE"),
                GivesBack::DontNeed => Some("MADV_DONTNEED"),
                GivesBack::Both => Some("both"),
                GivesBack::Never => Some("never"),
                GivesBack::Unknown => None,
            },
            settings: runtime
                .settings
                .iter()
                .map(|setting| SettingRow {
                    name: &setting.name,
                    value: &setting.value,
                    origin: match setting.origin {
                        Origin::Environment => "environment",
                        Origin::Build => "build",
                        Origin::CommandLine => "command_line",
                        Origin::ConfigFile => "config_file",
                    },
                })
                .collect(),
        }
    }
}

/// What the RSS is.
#[derive(Serialize)]
pub(super) struct VerdictRow<'a> {
    kind: &'static str,
    confidence: &'static str,
    evidence: &'a [String],
    doubts: &'a [String],
    advice: &'a [String],
}

impl<'a> VerdictRow<'a> {
    pub(super) fn of(verdict: &'a Verdict) -> Self {
        Self {
            kind: verdict.kind.name(),
            confidence: verdict.confidence.name(),
            evidence: &verdict.evidence,
            doubts: &verdict.doubts,
            advice: &verdict.advice,
        }
    }
}
