//! The allocators and language runtimes that live in a process, and how they are set to give memory back.
//!
//! This file is plain data. [`detect`] fills it, from files only: what a process sets while it runs
//! (mallopt, mallctl, debug.SetGCPercent) is not seen, and its environment is that of its last exec.

mod budget;
pub mod detect;
mod elf;
mod environment;
mod files;
mod go;
mod jemalloc;
mod others;
mod strings;

#[cfg(test)]
mod hostile_tests;

use std::fmt;

pub use budget::Depth;

/// More settings than any of them has that matter here.
const MAX_SETTINGS: usize = 64;
/// The longest value and version that are kept, in bytes.
const MAX_VALUE: usize = 1024;

/// What is recognised, in the order in which they are shown: those that others stand on come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Go,
    Jvm,
    Node,
    DotNet,
    Python,
    Jemalloc,
    Tcmalloc,
    Mimalloc,
    Glibc,
    Musl,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Go => "Go",
            Self::Jvm => "JVM",
            Self::Node => "Node.js (V8)",
            Self::DotNet => ".NET",
            Self::Python => "Python",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
            Self::Glibc => "glibc malloc",
            Self::Musl => "musl malloc",
        }
    }
}

/// One allocator or language runtime in a process. Nothing in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub kind: Kind,
    /// As its makers write it: `go1.19.8`, `5.3.0`.
    pub version: Option<String>,
    /// Those that are set, the ones that decide about memory given back among them.
    pub settings: Vec<Setting>,
    pub gives_back: GivesBack,
    /// `static` in the program itself, else the library's path as mapped; `, prefix _rjem_` where
    /// its functions have one.
    pub linkage: Option<String>,
}

impl Runtime {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            version: None,
            settings: Vec::new(),
            gives_back: GivesBack::Unknown,
            linkage: None,
        }
    }

    fn set(&mut self, name: &str, value: &str, origin: Origin) {
        if self.settings.len() < MAX_SETTINGS {
            self.settings.push(Setting {
                name: bounded(name),
                value: bounded(value),
                origin,
            });
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
    pub origin: Origin,
}

/// Where a setting was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The environment as it was at the last exec.
    Environment,
    /// Baked into the program.
    Build,
    CommandLine,
    ConfigFile,
}

/// The advice with which it gives memory back under its settings, apart from what it unmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GivesBack {
    /// `MADV_FREE`: the memory stays in the RSS until the kernel needs it.
    Free,
    /// `MADV_DONTNEED`.
    DontNeed,
    /// `MADV_FREE` first, and `MADV_DONTNEED` later for what was not used again.
    Both,
    /// None: it keeps what it has, or unmaps it.
    Never,
    /// Not known for this version or these settings.
    Unknown,
}

/// What was found in a process, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtimes {
    pub list: Vec<Runtime>,
    /// One note for each thing that could not be read, so that the list may be incomplete. Not
    /// escaped either.
    pub problems: Vec<String>,
}

impl Runtimes {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// In one line, for a header: `Go go1.19.8 (GODEBUG=madvdontneed=0), glibc malloc 2.36`.
impl fmt::Display for Runtimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, runtime) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            runtime.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        for (index, setting) in self.settings.iter().enumerate() {
            f.write_str(if index == 0 { " (" } else { ", " })?;
            setting.fmt(f)?;
        }
        if !self.settings.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        match self.origin {
            Origin::Build => f.write_str(" built in"),
            Origin::ConfigFile | Origin::Environment | Origin::CommandLine => Ok(()),
        }
    }
}

/// At most [`MAX_VALUE`] bytes of a text.
fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_each_with_its_version_and_settings() {
        let mut go = Runtime::new(Kind::Go);
        go.version = Some("go1.19.8".into());
        go.set("GODEBUG", "madvdontneed=0", Origin::Environment);
        let mut jemalloc = Runtime::new(Kind::Jemalloc);
        jemalloc.set("malloc_conf", "retain:false", Origin::Build);
        jemalloc.set("MALLOC_CONF", "dirty_decay_ms:0", Origin::Environment);
        let all = Runtimes {
            list: vec![go, jemalloc, Runtime::new(Kind::Musl)],
            problems: Vec::new(),
        };
        assert_eq!(
            all.to_string(),
            "Go go1.19.8 (GODEBUG=madvdontneed=0), jemalloc (malloc_conf=retain:false built in, \
             MALLOC_CONF=dirty_decay_ms:0), musl malloc"
        );
        assert_eq!(Runtimes::default().to_string(), "");
    }

    #[test]
    fn values_are_cut_between_characters() {
        let long = "ä".repeat(MAX_VALUE);
        assert_eq!(bounded(&format!("a{long}")).len(), MAX_VALUE - 1);
    }
}
