//! The other allocators and runtimes: how their files are named, where their versions stand, and what their settings do.

use super::elf::{Elf, ReadAt};
use super::environment::Environment;
use super::strings;
use super::{GivesBack, Kind, Origin, Runtime};

/// What a library or a program is, by its file's name.
pub(super) fn kind_of(path: &str) -> Option<Kind> {
    let name = path.rsplit('/').next()?;
    let library = |stem: &str| {
        name.strip_prefix(stem)
            .is_some_and(|rest| rest.starts_with(['.', '-', '_']) && rest.contains(".so"))
    };
    if library("libjemalloc") {
        Some(Kind::Jemalloc)
    } else if library("libtcmalloc") {
        Some(Kind::Tcmalloc)
    } else if library("libmimalloc") {
        Some(Kind::Mimalloc)
    } else if name == "libc.so.6" || name.starts_with("libc-2.") {
        Some(Kind::Glibc)
    } else if name.starts_with("ld-musl-") || name.starts_with("libc.musl-") || name == "libc.so" {
        Some(Kind::Musl)
    } else if name == "libjvm.so" {
        Some(Kind::Jvm)
    } else if library("libnode") || matches!(name, "node" | "nodejs") {
        Some(Kind::Node)
    } else if name == "libcoreclr.so" {
        Some(Kind::DotNet)
    } else if python_version(name).is_some() {
        Some(Kind::Python)
    } else {
        None
    }
}

/// The version in the name of a Python program or library: `3.11` of `python3.11`, `libpython3.11.so.1.0`; may be empty.
fn python_version(name: &str) -> Option<&str> {
    let rest = match name.strip_prefix("libpython") {
        Some(rest) if rest.contains(".so") => rest,
        Some(_) => return None,
        None => name.strip_prefix("python")?,
    };
    let end = rest
        .bytes()
        .position(|byte| !byte.is_ascii_digit() && byte != b'.')
        .unwrap_or(rest.len());
    // The name of a program ends here, but for marks of how it was built: python3.6m, python3.13t.
    let marks = &rest[end..];
    let known = marks.len() <= 2 || name.starts_with("libpython");
    known.then(|| rest[..end].trim_end_matches('.'))
}

/// Whether a file that has the name of musl's library is that (musl/ldso/dynlink.c, `__dls3`).
pub(super) fn is_musl<F: ReadAt>(elf: &Elf<'_, F>) -> bool {
    strings::contains(elf, b"musl libc (")
}

/// Whether a program that is not stripped has musl's allocator in it: the one of today or the one before 1.2.1.
pub(super) fn contains_musl<F: ReadAt>(elf: &Elf<'_, F>) -> bool {
    elf.symbol("__malloc_alloc_meta").is_some() || elf.symbol("__bin_chunk").is_some()
}

/// The version, as the file says it.
pub(super) fn version<F: ReadAt>(kind: Kind, path: &str, elf: &Elf<'_, F>) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    match kind {
        // gperftools/src/heap-profiler.cc and others print PERFTOOLS_VERSION, "gperftools 2.10". Google's own has no versions.
        Kind::Tcmalloc => strings::find(elf, b"gperftools ", |_, after| {
            let text = strings::until_nul(&after[11..])?;
            strings::version(text).map(str::to_owned)
        }),
        // Only in the name: libmimalloc.so.2.0.
        Kind::Mimalloc => name
            .split_once(".so.")
            .and_then(|(_, rest)| strings::version(rest))
            .map(str::to_owned),
        // glibc/csu/version.c: "GNU C Library (...) stable release version 2.36."
        Kind::Glibc => strings::find(elf, b"release version ", |before, after| {
            let here = before.starts_with(b"GNU C Library ")
                || memchr::memmem::find(before, b"\nGNU C Library ").is_some()
                || memchr::memmem::find(before, b"\0GNU C Library ").is_some();
            let text = std::str::from_utf8(&after[16..after.len().min(32)]).ok()?;
            strings::version(text).filter(|_| here).map(str::to_owned)
        }),
        // musl/src/internal/version.c: the version alone.
        Kind::Musl => strings::find(elf, b"\x001.", |_, after| {
            let text = strings::until_nul(&after[1..])?;
            let whole = strings::version(text) == Some(text) && text.matches('.').count() == 2;
            whole.then(|| text.to_owned())
        }),
        // openjdk/src/hotspot/share/runtime/abstract_vm_version.cpp, internal_vm_info_string:
        // "OpenJDK 64-Bit Server VM (17.0.15+6) for linux-amd64 JRE (...".
        Kind::Jvm => strings::find(elf, b" VM (", |_, after| {
            let text = strings::until_nul(after).or_else(|| std::str::from_utf8(after).ok())?;
            let (version, rest) = text[5..].split_once(')')?;
            let here = rest.starts_with(" for ") && version.len() <= 64;
            here.then(|| version.to_owned())
        }),
        // node/src/node_metadata.cc and the address of its own release: "node.js/v20.20.2".
        Kind::Node => strings::find(elf, b"node.js/v", |_, after| {
            let text = std::str::from_utf8(&after[9..after.len().min(32)]).ok()?;
            strings::version(text).map(str::to_owned)
        }),
        // The directory it is installed in: .../Microsoft.NETCore.App/8.0.4/libcoreclr.so.
        Kind::DotNet => path
            .rsplit('/')
            .nth(1)
            .and_then(strings::version)
            .map(str::to_owned),
        Kind::Python => {
            let short = python_version(name)?;
            python_symbol(elf)
                .or_else(|| python_string(short, elf))
                .or_else(|| (!short.is_empty()).then(|| short.to_owned()))
        }
        Kind::Go | Kind::Jemalloc => None,
    }
}

/// Since 3.11: the constant `Py_Version` (cpython/Python/getversion.c), 0x030b02f0 for 3.11.2.
fn python_symbol<F: ReadAt>(elf: &Elf<'_, F>) -> Option<String> {
    let value = elf.word(&elf.read_address(elf.exported("Py_Version")?, 8)?)?;
    let [major, minor, micro, level] = u32::try_from(value).ok()?.to_be_bytes();
    let mark = match level >> 4 {
        0xa => "a",
        0xb => "b",
        0xc => "rc",
        0xf => return Some(format!("{major}.{minor}.{micro}")),
        _ => return None,
    };
    Some(format!("{major}.{minor}.{micro}{mark}{}", level & 0xf))
}

/// Before: PY_VERSION (cpython/Include/patchlevel.h), a string of its own, "3.9.2" or "3.9.0rc1+".
fn python_string<F: ReadAt>(short: &str, elf: &Elf<'_, F>) -> Option<String> {
    let needle = match short {
        "" | "2" | "3" => return None,
        short => format!("\0{short}."),
    };
    strings::find(elf, needle.as_bytes(), |_, after| {
        let text = strings::until_nul(&after[1..])?;
        let numbers = strings::version(text)?;
        let rest = &text[numbers.len()..];
        let mark = rest.is_empty() || rest.starts_with(['a', 'b', 'r', '+']);
        (numbers.matches('.').count() == 2 && mark && rest.len() <= 5).then(|| text.to_owned())
    })
}

/// What mimalloc's options are called in a build, which tells what the build can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MimallocOptions {
    /// Since 2.1 and 1.8: purge_decommits.
    pub(super) purges: bool,
    /// In 2.0: allow_decommit.
    pub(super) decommits: bool,
}

impl MimallocOptions {
    pub(super) fn read<F: ReadAt>(elf: &Elf<'_, F>) -> Self {
        Self {
            purges: strings::contains(elf, b"purge_decommits\0"),
            decommits: strings::contains(elf, b"allow_decommit\0"),
        }
    }
}

/// mimalloc reads its variables whatever their case (mimalloc/src/options.c, mi_option_init; prim.c, _mi_prim_getenv).
pub(super) fn mimalloc(options: MimallocOptions, environment: &Environment) -> Runtime {
    let mut found = Runtime::new(Kind::Mimalloc);
    for (name, value) in environment.beginning_with("MIMALLOC_") {
        found.set(name, value, Origin::Environment);
    }
    // The second name is the one it had before (MI_OPTION_LEGACY).
    let option = |name: &str, legacy: &str| {
        environment
            .get_ignoring_case(name)
            .or_else(|| environment.get_ignoring_case(legacy))
    };
    let off = |value: &str| {
        let no = ["0", "false", "no", "off"];
        no.iter().any(|word| value.eq_ignore_ascii_case(word))
    };
    let decommits = option("MIMALLOC_PURGE_DECOMMITS", "MIMALLOC_RESET_DECOMMITS");
    let delay = option("MIMALLOC_PURGE_DELAY", "MIMALLOC_RESET_DELAY");
    found.gives_back = if options.purges {
        if delay.is_some_and(|delay| delay.starts_with('-')) {
            GivesBack::Never
        } else if decommits.is_some_and(off) {
            // prim/unix/prim.c, _mi_prim_reset.
            GivesBack::Free
        } else {
            // prim/unix/prim.c, _mi_prim_decommit; purge_decommits is 1 by default.
            GivesBack::DontNeed
        }
    } else if options.decommits
        && environment
            .get_ignoring_case("MIMALLOC_ALLOW_DECOMMIT")
            .is_none()
    {
        // 2.0: os.c, mi_os_commitx with commit false. Seen with 2.0.9.
        GivesBack::DontNeed
    } else {
        GivesBack::Unknown
    };
    found
}

/// gperftools has MADV_FREE compiled in only where TCMALLOC_USE_MADV_FREE was defined (src/system-alloc.cc; seen with 2.10),
/// and Google's tcmalloc gives MADV_DONTNEED by default too (tcmalloc/internal/system_allocator.h: madvise_).
pub(super) fn tcmalloc(version: Option<&str>, environment: &Environment) -> Runtime {
    let mut found = Runtime::new(Kind::Tcmalloc);
    found.version = version.map(str::to_owned);
    for (name, value) in environment.beginning_with("TCMALLOC_") {
        found.set(name, value, Origin::Environment);
    }
    // src/base/commandlineflags.h, EnvToBool: a set but empty variable counts as true.
    let disabled = environment
        .get("TCMALLOC_DISABLE_MEMORY_RELEASE")
        .is_some_and(|value| value.is_empty() || value.starts_with(['t', 'T', 'y', 'Y', '1']));
    let release = version.and_then(|version| {
        let (major, rest) = version.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    found.gives_back = match release {
        Some(_) if disabled => GivesBack::Never,
        Some(release) if release < (2, 7) => GivesBack::Unknown,
        _ => GivesBack::DontNeed,
    };
    found
}

/// Any other kind, with the settings of its own.
pub(super) fn runtime(
    kind: Kind,
    version: Option<&str>,
    environment: &Environment,
    arguments: &[String],
) -> Runtime {
    let mut found = Runtime::new(kind);
    found.version = version.map(str::to_owned);
    let (variables, prefixes): (&[&str], &[&str]) = match kind {
        // glibc/malloc/arena.c, ptmalloc_init, and the manual's chapter on tunables.
        Kind::Glibc => (&["GLIBC_TUNABLES"], &["MALLOC_"]),
        Kind::Jvm => (
            &["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"],
            &[],
        ),
        Kind::Node => (&["NODE_OPTIONS"], &[]),
        Kind::DotNet => (&[], &["DOTNET_gc", "COMPlus_gc"]),
        Kind::Python => (&["PYTHONMALLOC"], &[]),
        _ => (&[], &[]),
    };
    for name in variables {
        if let Some(value) = environment.get(name) {
            found.set(name, value, Origin::Environment);
        }
    }
    for prefix in prefixes {
        for (name, value) in environment.beginning_with(prefix) {
            // That one is jemalloc's.
            if name != "MALLOC_CONF" {
                found.set(name, value, Origin::Environment);
            }
        }
    }
    for option in options(kind, arguments) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        found.set(name, value, Origin::CommandLine);
    }
    found.gives_back = gives_back(kind, version);
    found
}

/// The options on the command line that say how much memory it may take and what collects it.
fn options(kind: Kind, arguments: &[String]) -> Vec<&str> {
    let (wanted, takes_value): (fn(&str) -> bool, &[&str]) = match kind {
        Kind::Jvm => (
            |option| {
                ["-Xmx", "-Xms", "-XX:MaxRAM", "-XX:SoftMaxHeapSize"]
                    .iter()
                    .any(|start| option.starts_with(start))
                    || option.starts_with("-XX:")
                        && (option.contains("Use") && option.ends_with("GC")
                            || ["Uncommit", "PeriodicGC", "HeapFreeRatio", "PreTouch"]
                                .iter()
                                .any(|word| option.contains(word)))
            },
            &["-cp", "-classpath", "--class-path", "-p", "--module-path"],
        ),
        Kind::Node => (
            |option| {
                let option = option.replace('_', "-");
                [
                    "--max-old",
                    "--max-semi",
                    "--max-heap",
                    "--optimize-for-size",
                ]
                .iter()
                .any(|start| option.starts_with(start))
            },
            &["-r", "--require", "--import"],
        ),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        // What follows the program's own name is its own affair.
        if !argument.starts_with(['-', '@']) || argument == "-jar" || argument == "--" {
            break;
        }
        if takes_value.contains(&argument.as_str()) {
            rest.next();
        } else if wanted(argument) {
            found.push(argument.as_str());
        }
    }
    found
}

fn gives_back(kind: Kind, version: Option<&str>) -> GivesBack {
    match kind {
        // malloc/arena.c, heap_shrink, and malloc/malloc.c, mtrim; the main arena shrinks by brk.
        Kind::Glibc => GivesBack::DontNeed,
        // mallocng unmaps (src/malloc/mallocng/glue.h: USE_MADV_FREE is 0); the allocator before 1.2.1 gave
        // MADV_DONTNEED (src/malloc/oldmalloc/malloc.c, __bin_chunk).
        Kind::Musl => match version.and_then(musl_release) {
            Some(release) if release >= (1, 2, 1) => GivesBack::Never,
            Some(_) => GivesBack::DontNeed,
            None => GivesBack::Unknown,
        },
        // v8/src/base/platform/platform-posix.cc, OS::DiscardSystemPages: MADV_FREE in old ones; seen with 20.
        Kind::Node => match version.and_then(|v| v.split('.').next()?.parse::<u32>().ok()) {
            Some(20..) => GivesBack::DontNeed,
            _ => GivesBack::Unknown,
        },
        // cpython/Objects/obmalloc.c: arenas are unmapped, and the rest is the C library's.
        Kind::Python => GivesBack::Never,
        // HotSpot maps over what it uncommits (os_linux.cpp, pd_uncommit_memory), but its collectors differ;
        // .NET mostly maps over too, and its VirtualReset (gcenv.unix.cpp) has had several forms.
        _ => GivesBack::Unknown,
    }
}

fn musl_release(version: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
