//! jemalloc: its version, the option strings it reads in their order, and what they make it do.

use super::elf::{Elf, ReadAt};
use super::environment::Environment;
use super::strings;
use super::{GivesBack, Kind, MAX_VALUE, Origin, Runtime};

/// `X.Y.Z-N-g` and 40 hexadecimal digits: the release, how many commits since, and the commit (jemalloc/configure.ac).
pub(super) fn version<F: ReadAt>(elf: &Elf<'_, F>) -> Option<String> {
    strings::find(elf, b"-g", |before, after| {
        let commit = strings::until_nul(&after[2..])?;
        if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let start = before.iter().rposition(|&b| b == 0).map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&before[start..]).ok()?;
        let (release, commits) = text.rsplit_once('-')?;
        let whole = strings::version(release) == Some(release);
        let counted = !commits.is_empty() && commits.bytes().all(|b| b.is_ascii_digit());
        // A build from a bare copy of the sources does not know its own version and says 0.0.0.
        if !whole || !counted || release == "0.0.0" {
            return None;
        }
        Some(match commits {
            "0" => release.to_owned(),
            _ => text.to_owned(),
        })
    })
}

/// The option strings of a process, in the order in which jemalloc reads them: a later one wins
/// (jemalloc/src/jemalloc.c, `malloc_conf_init_helper`).
#[derive(Default)]
pub(super) struct Options<'a> {
    /// The variable `malloc_conf` of the program.
    pub(super) built_in: Option<String>,
    /// Where the symbolic link /etc/malloc.conf leads in the process's root.
    pub(super) link: Option<String>,
    pub(super) environment: Option<&'a str>,
}

/// The string that a variable `malloc_conf` of a program or library points to.
pub(super) fn built_in<F: ReadAt>(elf: &Elf<'_, F>, prefix: &str) -> Option<String> {
    let variable = elf.symbol(&format!("{prefix}malloc_conf"))?;
    let text = elf.read_address(elf.pointer(variable)?, MAX_VALUE)?;
    strings::until_nul(&text).map(str::to_owned)
}

/// In a stripped program the variable cannot be found, but a string with a decay time in it is its value:
/// jemalloc's own messages have none. A string that others run into is missed.
pub(super) fn built_in_string<F: ReadAt>(elf: &Elf<'_, F>) -> Option<String> {
    strings::find(elf, b"_decay_ms:", |before, after| {
        let start = before.iter().rposition(|&b| b == 0)? + 1;
        let text = format!(
            "{}{}",
            std::str::from_utf8(&before[start..]).ok()?,
            strings::until_nul(after)?
        );
        let option = |c: char| c.is_ascii_alphanumeric() || "_:,.-".contains(c);
        text.chars().all(option).then_some(text)
    })
}

/// The name of its environment variable: `JEMALLOC_CPREFIX"MALLOC_CONF"`, the prefix in upper case.
pub(super) fn variable(prefix: &str) -> String {
    format!("{}MALLOC_CONF", prefix.to_ascii_uppercase())
}

/// The path of the link that it reads: `"/etc/" JEMALLOC_PREFIX "malloc.conf"`.
pub(super) fn link(prefix: &str) -> String {
    format!("/etc/{prefix}malloc.conf")
}

pub(super) fn options<'a>(prefix: &str, environment: &'a Environment) -> Options<'a> {
    Options {
        environment: environment.get(&variable(prefix)),
        ..Options::default()
    }
}

/// The allocator with that version under those options.
pub(super) fn runtime(version: Option<String>, prefix: &str, options: &Options<'_>) -> Runtime {
    let mut jemalloc = Runtime::new(Kind::Jemalloc);
    let mut decay = Decay::default();
    let sources = [
        (
            format!("{prefix}malloc_conf"),
            options.built_in.as_deref(),
            Origin::Build,
        ),
        (link(prefix), options.link.as_deref(), Origin::ConfigFile),
        (variable(prefix), options.environment, Origin::Environment),
    ];
    for (name, value, origin) in sources {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            decay.read(value);
            jemalloc.set(&name, value, origin);
        }
    }
    jemalloc.gives_back = decay.gives_back(version.as_deref().and_then(release));
    jemalloc.version = version;
    jemalloc
}

/// The options that decide about memory given back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decay {
    dirty_ms: Option<i64>,
    muzzy_ms: Option<i64>,
    retain: Option<bool>,
}

impl Decay {
    /// Reads `key:value,key:value`; what is not understood is passed over, as jemalloc does.
    fn read(&mut self, options: &str) {
        for option in options.split(',') {
            let Some((key, value)) = option.split_once(':') else {
                continue;
            };
            match key {
                "dirty_decay_ms" => self.dirty_ms = milliseconds(value).or(self.dirty_ms),
                "muzzy_decay_ms" => self.muzzy_ms = milliseconds(value).or(self.muzzy_ms),
                "retain" => self.retain = value.parse().ok().or(self.retain),
                _ => {}
            }
        }
    }

    /// A dirty page is given back when its time is over: with MADV_FREE if muzzy pages may exist, and again with
    /// MADV_DONTNEED when the muzzy time is over; with MADV_DONTNEED at once if that time is 0 (jemalloc/src/arena.c:
    /// `arena_decay_stashed`, 5.3: src/pac.c: `pac_decay_stashed`; src/pages.c: `pages_purge_lazy`, `pages_purge_forced`).
    fn gives_back(&self, release: Option<(u32, u32)>) -> GivesBack {
        // Before 5.0 there was one decay only, and the build chose the advice.
        if release.is_some_and(|release| release < (5, 0)) {
            return GivesBack::Unknown;
        }
        if self.dirty_ms == Some(-1) {
            return GivesBack::Never;
        }
        let muzzy_ms = self.muzzy_ms.or(match release {
            // MUZZY_DECAY_MS_DEFAULT; turned off in 5.2.0 (jemalloc pull request 1421).
            Some(release) if release >= (5, 2) => Some(0),
            Some(_) => Some(10_000),
            None => None,
        });
        match (muzzy_ms, self.retain) {
            (None, _) => GivesBack::Unknown,
            // Clean pages are unmapped where they can be, instead of advised (arena_extent_dalloc_wrapper).
            (Some(0), Some(false)) => GivesBack::Unknown,
            (Some(0), _) => GivesBack::DontNeed,
            (Some(-1), _) | (Some(_), Some(false)) => GivesBack::Free,
            (Some(_), _) => GivesBack::Both,
        }
    }
}

/// A whole number of at least -1 (`CONF_HANDLE_SSIZE_T`), in the notations of strtol(3).
fn milliseconds(value: &str) -> Option<i64> {
    let value = match value.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok()?,
        None => value.parse().ok()?,
    };
    (value >= -1).then_some(value)
}

fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = strings::version(version)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_back(version: Option<&str>, options: &str) -> GivesBack {
        let options = Options {
            environment: Some(options),
            ..Options::default()
        };
        runtime(version.map(str::to_owned), "", &options).gives_back
    }

    #[test]
    fn the_muzzy_decay_decides_which_advice_is_given() {
        use GivesBack::{Both, DontNeed, Free, Never, Unknown};
        for (version, options, expected) in [
            (Some("5.3.0"), "", DontNeed),
            (Some("5.2.0"), "", DontNeed),
            (Some("5.1.0"), "", Both),
            (Some("5.0.1-2-g0"), "muzzy_decay_ms:0", DontNeed),
            (Some("5.3.0"), "muzzy_decay_ms:1000", Both),
            (Some("5.3.0"), "muzzy_decay_ms:-1", Free),
            (Some("5.3.0"), "muzzy_decay_ms:1000,retain:false", Free),
            (Some("5.3.0"), "retain:false", Unknown),
            (
                Some("5.3.0"),
                "dirty_decay_ms:-1,muzzy_decay_ms:1000",
                Never,
            ),
            (
                Some("5.3.0"),
                "dirty_decay_ms:-1,dirty_decay_ms:0",
                DontNeed,
            ),
            (
                Some("5.3.0"),
                "muzzy_decay_ms:-2,muzzy_decay_ms:x",
                DontNeed,
            ),
            (Some("5.3.0"), "muzzy_decay_ms:0x10", Both),
            (Some("4.5.0"), "", Unknown),
            (None, "", Unknown),
            (None, "muzzy_decay_ms:0", DontNeed),
        ] {
            assert_eq!(
                given_back(version, options),
                expected,
                "{version:?} {options}"
            );
        }
    }

    #[test]
    fn the_environment_is_read_last() {
        let options = Options {
            built_in: Some("muzzy_decay_ms:5,retain:true".into()),
            link: Some("dirty_decay_ms:-1".into()),
            environment: Some("dirty_decay_ms:7"),
        };
        let found = runtime(Some("5.3.0".into()), "_rjem_", &options);
        assert_eq!(found.gives_back, GivesBack::Both);
        assert_eq!(
            found.to_string(),
            "jemalloc 5.3.0 (_rjem_malloc_conf=muzzy_decay_ms:5,retain:true built in, \
             /etc/_rjem_malloc.conf=dirty_decay_ms:-1, _RJEM_MALLOC_CONF=dirty_decay_ms:7)"
        );
    }
}
