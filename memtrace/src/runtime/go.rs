//! Go: its version and settings as the linker left them in the program (go/src/debug/buildinfo), and what they mean.

use super::elf::{Elf, ReadAt};
use super::environment::Environment;
use super::{GivesBack, Kind, Origin, Runtime, bounded};

const MAGIC: &[u8] = b"\xff Go buildinf:";
const HEADER: usize = 32;
/// The list of modules and settings behind it: some 100 kB where there are a thousand modules.
const MAX_INFO: usize = 4 << 20;
const MAX_VERSION: u64 = 256;
/// Where the linker puts the record if there is no section for it: near the start of the data (debug/buildinfo).
const MAX_SEARCH: usize = 64 * 1024;
/// The keys of GODEBUG that decide about memory given back (runtime/runtime1.go: dbgvars, runtime/extern.go).
const KEYS: [&str; 4] = ["madvdontneed", "harddecommit", "disablethp", "sbrk"];
/// Environment variables that set the goals of the collector and of the scavenger (runtime/extern.go).
const VARIABLES: [&str; 2] = ["GOGC", "GOMEMLIMIT"];

/// What the linker wrote into a program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct BuildInfo {
    pub(super) version: Option<String>,
    /// The settings of the build, by `build` lines: key and value.
    settings: Vec<(String, String)>,
}

impl BuildInfo {
    /// Reads it; `None` where the file is no Go program.
    pub(super) fn read<F: ReadAt>(elf: &Elf<'_, F>) -> Option<Self> {
        let section = elf.section(".go.buildinfo");
        let record = match section {
            Some(section) => Some(elf.read(&section.place, MAX_INFO)),
            None => elf
                .segments
                .iter()
                .filter(|segment| segment.flags & object::elf::PF_W != 0)
                .find_map(|segment| {
                    let start = elf.read(&segment.place, MAX_SEARCH);
                    let at = find(&start)?;
                    let from = segment.place.start + at as u64;
                    Some(elf.read(&(from..segment.place.end), MAX_INFO))
                }),
        };
        if let Some(record) = record
            && let Some(at) = find(&record)
        {
            return Some(Self::parse(&record[at..], elf));
        }
        // Up to Go 1.12 there is no such record, but a table that even strip leaves.
        let go = section.is_some()
            || elf.section(".gopclntab").is_some()
            || elf.section(".note.go.buildid").is_some();
        go.then(|| Self {
            version: elf
                .symbol("runtime.buildVersion")
                .and_then(|address| string(elf, address, elf.is_64, elf.big_endian, MAX_VERSION)),
            settings: Vec::new(),
        })
    }

    fn parse<F: ReadAt>(record: &[u8], elf: &Elf<'_, F>) -> Self {
        let (version, info) = if record.get(15).is_some_and(|flags| flags & 2 != 0) {
            inline(record)
        } else {
            pointers(record, elf)
        };
        Self {
            version: version.filter(|version| !version.is_empty()),
            settings: info.map(|info| settings(&info)).unwrap_or_default(),
        }
    }

    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The GODEBUG that is baked in: by a `//go:debug` line, go.mod or the Go version in it (cmd/go/internal/load/godebug.go),
    /// or by hand with the linker's flag that the go command itself uses for it.
    fn default_debug(&self) -> Option<&str> {
        self.setting("DefaultGODEBUG").or_else(|| {
            let (_, rest) = self
                .setting("-ldflags")?
                .rsplit_once("runtime.godebugDefault=")?;
            rest.split([' ', '\'', '"']).next()
        })
    }
}

/// Where the record begins: at a multiple of 16.
fn find(data: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(data, MAGIC).find(|at| at % 16 == 0 && data.len() - at >= HEADER)
}

/// Since Go 1.18: two strings behind the header, each after its length as a varint.
fn inline(record: &[u8]) -> (Option<String>, Option<Vec<u8>>) {
    let next = |data: &[u8]| {
        let (length, used) = varint(data)?;
        let end = used.checked_add(usize::try_from(length).ok()?)?;
        data.get(used..end).map(|_| (used, end))
    };
    let Some(data) = record.get(HEADER..) else {
        return (None, None);
    };
    let Some((start, end)) = next(data) else {
        return (None, None);
    };
    let version = bounded(&String::from_utf8_lossy(&data[start..end.min(start + 256)]));
    let data = &data[end..];
    let info = next(data).map(|(start, end)| data[start..end].to_vec());
    (Some(version), info)
}

/// Before: two addresses of Go strings, which are an address and a length.
fn pointers<F: ReadAt>(record: &[u8], elf: &Elf<'_, F>) -> (Option<String>, Option<Vec<u8>>) {
    let (Some(&size), Some(&flags)) = (record.get(14), record.get(15)) else {
        return (None, None);
    };
    let wide = match size {
        4 => false,
        8 => true,
        _ => return (None, None),
    };
    let big = flags & 1 != 0;
    let at = |index: usize| {
        record
            .get(16 + index * usize::from(size)..)
            .and_then(|bytes| number(bytes, wide, big))
    };
    let version = at(0).and_then(|address| string(elf, address, wide, big, MAX_VERSION));
    let info = at(1).and_then(|address| bytes(elf, address, wide, big, MAX_INFO as u64));
    (version, info)
}

fn string<F: ReadAt>(
    elf: &Elf<'_, F>,
    address: u64,
    wide: bool,
    big: bool,
    max: u64,
) -> Option<String> {
    let bytes = bytes(elf, address, wide, big, max)?;
    Some(bounded(&String::from_utf8_lossy(&bytes)))
}

/// The bytes of the Go string whose header lies at an address.
fn bytes<F: ReadAt>(
    elf: &Elf<'_, F>,
    address: u64,
    wide: bool,
    big: bool,
    max: u64,
) -> Option<Vec<u8>> {
    let word = if wide { 8 } else { 4 };
    let header = elf.read_address(address, 2 * word)?;
    let data = number(&header, wide, big)?;
    let length = number(header.get(word..)?, wide, big)?;
    if length > max {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let bytes = elf.read_address(data, length)?;
    (bytes.len() == length).then_some(bytes)
}

fn number(bytes: &[u8], wide: bool, big: bool) -> Option<u64> {
    Some(match (wide, big) {
        (false, false) => u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?).into(),
        (false, true) => u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?).into(),
        (true, false) => u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
        (true, true) => u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?),
    })
}

/// encoding/binary's Uvarint: the number and how many bytes it took.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// The `build` lines of the module information; the 16 bytes before and behind it are marks of
/// cmd/go and no line begins with what they hold.
fn settings(info: &[u8]) -> Vec<(String, String)> {
    info.split(|&byte| byte == b'\n')
        .filter_map(|line| {
            // The first line stands right behind the mark, but is never a setting: it is the path.
            let line = String::from_utf8_lossy(line.strip_prefix(b"build\t")?);
            let (key, value) = line.split_once('=')?;
            Some((bounded(key), bounded(&unquoted(value))))
        })
        .take(256)
        .collect()
}

/// Values with spaces or quotes in them are Go string literals (runtime/debug/mod.go: quoteValue).
fn unquoted(value: &str) -> String {
    if let Some(raw) = value.strip_prefix('`').and_then(|v| v.strip_suffix('`')) {
        return raw.to_owned();
    }
    match value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

/// The runtime of a program with that build information in that environment.
pub(super) fn runtime(info: &BuildInfo, environment: &Environment) -> Runtime {
    let mut go = Runtime::new(Kind::Go);
    go.version.clone_from(&info.version);
    let from_environment = environment.get("GODEBUG").unwrap_or_default();
    let built_in = info.default_debug().unwrap_or_default();
    let mut dont_need = None;
    for key in KEYS {
        // runtime/runtime1.go, parsedebugvars: the built-in ones first, then the environment's over them.
        let (value, origin) = match last_number(from_environment, key) {
            Some(value) => (Some(value), Origin::Environment),
            None => (last_number(built_in, key), Origin::Build),
        };
        let Some(value) = value else {
            continue;
        };
        if key == "madvdontneed" {
            dont_need = Some(value != 0);
        }
        go.set("GODEBUG", &format!("{key}={value}"), origin);
    }
    for name in VARIABLES {
        if let Some(value) = environment.get(name).filter(|value| !value.is_empty()) {
            go.set(name, value, Origin::Environment);
        }
    }
    go.gives_back = gives_back(info.version.as_deref().and_then(Release::parse), dont_need);
    go
}

/// The value of a key in a GODEBUG list. At the start of a program the list is read from the left, so that
/// the last one wins; what is no 32-bit number is passed over (runtime/runtime1.go: parsegodebug, atoi32).
fn last_number(list: &str, key: &str) -> Option<i32> {
    list.split(',')
        .filter_map(|field| field.split_once('='))
        .filter(|(name, _)| *name == key)
        .filter_map(|(_, value)| {
            let digits = value.strip_prefix('-').unwrap_or(value);
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| value.parse().ok())?
        })
        .next_back()
}

/// `go1.MINOR`, and whether it is a state on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Release {
    minor: u32,
    development: bool,
}

impl Release {
    /// `go1.19.8`, `go1.16beta1`, `go1.12.17 X:framepointer`, `devel go1.22-abcdef Mon ...`; not `devel +abcdef`.
    fn parse(version: &str) -> Option<Self> {
        let (development, rest) = match version.strip_prefix("devel ") {
            Some(rest) => (true, rest),
            None => (false, version),
        };
        let rest = rest.strip_prefix("go1")?;
        let Some(rest) = rest.strip_prefix('.') else {
            // go1 itself.
            let ends = rest.is_empty() || rest.starts_with([' ', '-']);
            return ends.then_some(Self {
                minor: 0,
                development,
            });
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        Some(Self {
            minor: rest[..digits].parse().ok()?,
            development,
        })
    }
}

/// What the scavenger uses (runtime/mem_linux.go, sysUnused). MADV_FREE came with Go 1.12 and
/// GODEBUG=madvdontneed with it; with Go 1.16 that became 1 by default (runtime/runtime1.go, parsedebugvars).
fn gives_back(release: Option<Release>, dont_need: Option<bool>) -> GivesBack {
    let by_default = match release {
        Some(Release { minor: ..=11, .. }) => return GivesBack::DontNeed,
        // Before or after the change, who knows.
        Some(Release {
            minor: 12 | 16,
            development: true,
        })
        | None => GivesBack::Unknown,
        Some(Release { minor: 12..=15, .. }) => GivesBack::Free,
        Some(_) => GivesBack::DontNeed,
    };
    match dont_need {
        Some(true) => GivesBack::DontNeed,
        // An unknown version may be older than the setting.
        Some(false) if release.is_some() => GivesBack::Free,
        _ => by_default,
    }
}

#[cfg(test)]
#[path = "go_tests.rs"]
mod tests;
