//! Looks at the files of a process and puts together what lives in it.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::elf::Elf;
use super::environment::{self, Environment};
use super::files::Process;
use super::others::MimallocOptions;
use super::strings::{self, Budget};
use super::{GivesBack, Kind, Runtime, Runtimes, bounded, go, jemalloc, others};
use crate::proc::is_gone;
use crate::proc::mapped::MappedFile;

/// The kernel's own limit for both together is a quarter of the stack's, 2 MiB as a rule.
const MAX_ENVIRONMENT: u64 = 1 << 20;
const MAX_COMMAND_LINE: u64 = 256 << 10;
/// How much of one file is looked through, and of all: beyond it is said to have been cut short.
const MAX_FILE: u64 = 64 << 20;
const MAX_TOTAL: u64 = 192 << 20;
/// Slow disks and network file systems are not waited for longer than this between two reads.
const MAX_TIME: Duration = Duration::from_millis(1500);
/// One sentence for each is enough.
const MAX_PROBLEMS: usize = 8;
/// A process can map any number of libraries with an allocator in each.
const MAX_RUNTIMES: usize = 32;

/// Recognises what lives in a process.
///
/// It reads the program, the mapped libraries, the environment and the command line, all of them
/// as files; the process is not stopped and its memory not read. The environment is the one it was
/// given at its last exec: what it has changed in it since is not seen.
pub fn detect(pid: u32) -> Runtimes {
    let mut search = match Process::open(pid) {
        Ok(process) => Search::new(process),
        Err(error) => {
            let mut none = Runtimes::default();
            if !is_gone(&error) {
                none.problems
                    .push(format!("the process cannot be looked at: {error}"));
            }
            return none;
        }
    };
    search.run();
    search.finish()
}

struct Search {
    process: Process,
    environment: Environment,
    environment_known: bool,
    arguments: Vec<String>,
    found: Runtimes,
    left: u64,
    until: Instant,
    /// The program, once it has been looked at.
    program: Option<Elf<File>>,
}

impl Search {
    fn new(process: Process) -> Self {
        Self {
            process,
            environment: Environment::default(),
            environment_known: false,
            arguments: Vec::new(),
            found: Runtimes::default(),
            left: MAX_TOTAL,
            until: Instant::now() + MAX_TIME,
            program: None,
        }
    }

    fn run(&mut self) {
        match self.process.read(c"environ", MAX_ENVIRONMENT) {
            Ok((bytes, whole)) => {
                if !whole {
                    self.problem("its environment is too long to be read to its end".into());
                }
                self.environment = Environment::parse(&bytes);
                self.environment_known = self.environment.is_known();
                if !self.environment_known {
                    self.problem(
                        "its environment is overwritten, by a title as a rule: settings of allocators \
                         in it are not seen"
                            .into(),
                    );
                }
            }
            Err(error) => self.unreadable("its environment", &error),
        }
        match self.process.read(c"cmdline", MAX_COMMAND_LINE) {
            Ok((bytes, _)) => self.arguments = environment::arguments(&bytes),
            Err(error) => self.unreadable("its command line", &error),
        }
        let files = match self.process.mapped_files() {
            Ok(files) => files,
            Err(error) => {
                self.unreadable("its mappings", &error);
                Vec::new()
            }
        };
        let program = match self.process.executable() {
            Ok(file) => Some(file),
            Err(error) => {
                self.unreadable("its program", &error);
                None
            }
        };
        let program_is = program.as_ref().and_then(|file| file.metadata().ok());
        let name = self.process.executable_path().unwrap_or_default();
        if let Some(file) = program {
            self.look(&name, file, true);
        }
        for mapped in files {
            let same = program_is
                .as_ref()
                .is_some_and(|status| is_same(status, &mapped) || mapped.path == name);
            if same {
                continue;
            }
            if Instant::now() >= self.until {
                self.problem("there was no time to look at all of its libraries".into());
                break;
            }
            match self.process.mapped(&mapped) {
                Ok(file) => self.look(&mapped.path, file, false),
                // Memory of a device, say /dev/zero: no library.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => {
                    self.by_name(&mapped);
                    self.unreadable(&mapped.path, &error);
                }
            }
        }
        self.look_for_static_musl();
    }

    /// A static program has no library to be recognised by.
    fn look_for_static_musl(&mut self) {
        let libc = |runtime: &Runtime| matches!(runtime.kind, Kind::Glibc | Kind::Musl);
        if self.found.list.iter().any(libc) {
            return;
        }
        if self.program.as_ref().is_some_and(others::contains_musl) {
            let mut found = others::runtime(Kind::Musl, None, &self.environment, &self.arguments);
            found.linkage = Some("static".to_owned());
            self.add(found);
        }
    }

    /// Looks at one file; `path` is its name for people.
    fn look(&mut self, path: &str, file: File, is_program: bool) {
        // Whatever is no ELF file has no code of its own either.
        let Some(elf) = Elf::parse(file) else {
            return;
        };
        let linkage = if is_program { "static" } else { path };
        let plain = path.strip_suffix(" (deleted)").unwrap_or(path);
        let mut budget = Budget {
            bytes: self.left.min(MAX_FILE),
            until: self.until,
        };
        let before = budget.bytes;

        let build_info = go::BuildInfo::read(&elf);
        if let Some(info) = &build_info {
            let mut found = go::runtime(info, &self.environment);
            found.linkage = Some(linkage.to_owned());
            self.add(found);
        }
        let kind = match others::kind_of(plain) {
            None if is_program && elf.exported("node_module_register").is_some() => {
                Some(Kind::Node)
            }
            Some(Kind::Musl) if !others::is_musl(&elf, &mut budget) => None,
            kind => kind,
        };
        let marks = match &build_info {
            // Without cgo there is nothing in it but Go.
            Some(info) if info.setting("CGO_ENABLED") == Some("0") => strings::Marks::default(),
            _ => strings::marks(&elf, &mut budget),
        };
        if marks.jemalloc || kind == Some(Kind::Jemalloc) {
            self.add_jemalloc(&elf, marks.prefix.as_deref(), linkage, &mut budget);
        }
        if marks.mimalloc || kind == Some(Kind::Mimalloc) {
            let options = MimallocOptions::read(&elf, &mut budget);
            let mut found = others::mimalloc(options, &self.environment);
            found.version = others::version(Kind::Mimalloc, plain, &elf, &mut budget);
            found.linkage = Some(linkage.to_owned());
            self.add(found);
        }
        if marks.tcmalloc || kind == Some(Kind::Tcmalloc) {
            let version = others::version(Kind::Tcmalloc, plain, &elf, &mut budget);
            let mut found = others::tcmalloc(version.as_deref(), &self.environment);
            found.linkage = Some(linkage.to_owned());
            self.add(found);
        }
        // A library that only looks like it, such as libc_malloc_debug, does not count.
        if marks.glibc && kind.is_none() && is_program {
            self.add_other(Kind::Glibc, &elf, plain, linkage, &mut budget);
        }
        match kind {
            None | Some(Kind::Jemalloc | Kind::Mimalloc | Kind::Tcmalloc | Kind::Go) => {}
            Some(kind) => self.add_other(kind, &elf, plain, linkage, &mut budget),
        }
        if marks.cut {
            self.problem(format!(
                "{path} was not looked through to its end, so that an allocator in it may be missing"
            ));
        }
        self.left -= before - budget.bytes;
        if is_program {
            self.program = Some(elf);
        }
    }

    fn add_other(
        &mut self,
        kind: Kind,
        elf: &Elf<File>,
        path: &str,
        linkage: &str,
        budget: &mut Budget,
    ) {
        let version = others::version(kind, path, elf, budget);
        let mut found =
            others::runtime(kind, version.as_deref(), &self.environment, &self.arguments);
        found.linkage = Some(linkage.to_owned());
        self.add(found);
    }

    fn add_jemalloc(
        &mut self,
        elf: &Elf<File>,
        prefix: Option<&str>,
        linkage: &str,
        budget: &mut Budget,
    ) {
        let prefix = prefix.unwrap_or_default();
        let version = jemalloc::version(elf, budget);
        let mut options = jemalloc::options(prefix, &self.environment);
        // A missing link is the normal case, and one that cannot be read is jemalloc's loss too.
        options.link = self
            .process
            .link(&jemalloc::link(prefix))
            .ok()
            .map(|target| bounded(&String::from_utf8_lossy(&target)));
        // The program's own variable goes before the library's weak one.
        options.built_in = self
            .program
            .as_ref()
            .and_then(|program| jemalloc::built_in(program, prefix))
            .or_else(|| jemalloc::built_in(elf, prefix))
            .or_else(|| jemalloc::built_in_string(elf, budget));
        let mut found = jemalloc::runtime(version, prefix, &options);
        found.linkage = Some(match prefix {
            "" => linkage.to_owned(),
            prefix => format!("{linkage}, prefix {prefix}"),
        });
        self.add(found);
    }

    /// For a library that cannot be opened: its name at least tells what it is.
    fn by_name(&mut self, mapped: &MappedFile) {
        let mut found = match others::kind_of(mapped.plain_path()) {
            None | Some(Kind::Go) => return,
            Some(Kind::Jemalloc) => {
                jemalloc::runtime(None, "", &jemalloc::options("", &self.environment))
            }
            Some(Kind::Mimalloc) => others::mimalloc(MimallocOptions::default(), &self.environment),
            Some(kind) => others::runtime(kind, None, &self.environment, &self.arguments),
        };
        found.linkage = Some(mapped.path.clone());
        self.add(found);
    }

    fn add(&mut self, mut found: Runtime) {
        // A variable that is not seen may say otherwise than the version does.
        let by_environment = matches!(
            found.kind,
            Kind::Go | Kind::Jemalloc | Kind::Mimalloc | Kind::Tcmalloc
        );
        if by_environment && !self.environment_known {
            found.gives_back = GivesBack::Unknown;
        }
        // Of these a process has one; what comes twice is its program and its library, and the
        // one that knows its version better is right.
        let single = matches!(
            found.kind,
            Kind::Jvm | Kind::Node | Kind::DotNet | Kind::Python | Kind::Glibc | Kind::Musl
        );
        let length = |runtime: &Runtime| runtime.version.as_ref().map_or(0, String::len);
        let list = &mut self.found.list;
        let known = list.iter().position(|other| {
            other.kind == found.kind && (single || other.linkage == found.linkage)
        });
        match known {
            Some(known) if length(&list[known]) >= length(&found) => {}
            Some(known) => list[known] = found,
            None if list.len() < MAX_RUNTIMES => list.push(found),
            None => {}
        }
    }

    fn unreadable(&mut self, what: &str, error: &io::Error) {
        if is_gone(error) {
            return;
        }
        self.problem(format!("{what} cannot be read: {error}"));
    }

    fn problem(&mut self, problem: String) {
        let problems = &mut self.found.problems;
        if problems.len() < MAX_PROBLEMS && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    fn finish(mut self) -> Runtimes {
        self.found.list.sort_by_key(|runtime| runtime.kind);
        self.found
    }
}

fn is_same(status: &std::fs::Metadata, mapped: &MappedFile) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = (libc::major(status.dev()), libc::minor(status.dev()));
    (device, status.ino()) == (mapped.device, mapped.inode)
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;
