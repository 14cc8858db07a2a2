//! Looks at the files of a process and puts together what lives in it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicBool;

use super::budget::{Budget, Depth, Limit};
use super::elf::Elf;
use super::environment::{self, Environment};
use super::files::Process;
use super::others::MimallocOptions;
use super::strings;
use super::{GivesBack, Kind, Runtime, Runtimes, bounded, go, jemalloc, others};
use crate::proc::is_gone;
use crate::proc::mapped::MappedFile;

/// The kernel's own limit for both together is a quarter of the stack's, 2 MiB as a rule.
const MAX_ENVIRONMENT: u64 = 1 << 20;
const MAX_COMMAND_LINE: u64 = 256 << 10;
/// One sentence for each is enough.
const MAX_PROBLEMS: usize = 8;
/// A process can map any number of libraries with an allocator in each.
const MAX_RUNTIMES: usize = 32;

/// What one look came to.
#[derive(Debug, Default)]
pub struct Look {
    pub runtimes: Runtimes,
    /// The budget ended it: a more thorough look may find more.
    pub cut: bool,
    /// The process has ended, or is about to: it shows nothing any more.
    pub gone: bool,
}

/// Recognises what lives in a process.
///
/// It reads the program, the mapped libraries, the environment and the command line, all of them
/// as files; the process is not stopped and its memory not read. The environment is the one it was
/// given at its last exec: what it has changed in it since is not seen.
///
/// One budget covers all that is read. A thorough look may read 1 GiB, look at 32 Mi records (symbols,
/// sections, lines) and take 3 s of CPU time and 5 s; a file may use half of what those before it left. What
/// that does not suffice for is not known, and [`Runtimes::problems`] says why. A look ends soon after
/// `stop` is set.
pub fn detect(pid: u32, depth: Depth, stop: &AtomicBool) -> Look {
    detect_within(pid, &Budget::new(depth.amount(), stop))
}

fn detect_within(pid: u32, budget: &Budget<'_>) -> Look {
    let mut search = match Process::open(pid) {
        Ok(process) => Search::new(process, budget),
        Err(error) => {
            let mut look = Look {
                gone: is_gone(&error),
                ..Look::default()
            };
            if !look.gone {
                let problem = format!("the process cannot be looked at: {error}");
                look.runtimes.problems.push(problem);
            }
            return look;
        }
    };
    search.run();
    search.finish()
}

struct Search<'a> {
    process: Process,
    environment: Environment,
    environment_known: bool,
    arguments: Vec<String>,
    found: Look,
    budget: &'a Budget<'a>,
    /// The program, once it has been looked at.
    program: Option<Elf<'a, File>>,
}

impl<'a> Search<'a> {
    fn new(process: Process, budget: &'a Budget<'a>) -> Self {
        Self {
            process,
            environment: Environment::default(),
            environment_known: false,
            arguments: Vec::new(),
            found: Look::default(),
            budget,
            program: None,
        }
    }

    fn run(&mut self) {
        match self.read(c"environ", MAX_ENVIRONMENT) {
            Ok((bytes, whole)) => {
                self.environment = Environment::parse(&bytes);
                self.environment_known = whole && self.environment.is_known();
                if !whole {
                    self.problem("its environment is too long to be read to its end".into());
                }
                if !self.environment.is_known() {
                    self.problem(
                        "its environment is overwritten, by a title as a rule: settings of allocators \
                         in it are not seen"
                            .into(),
                    );
                }
            }
            Err(error) => self.unreadable("its environment", &error),
        }
        match self.read(c"cmdline", MAX_COMMAND_LINE) {
            Ok((bytes, whole)) => {
                if !whole {
                    self.problem("its command line is too long to be read to its end".into());
                }
                self.arguments = environment::arguments(&bytes);
            }
            Err(error) => self.unreadable("its command line", &error),
        }
        let program = match self.process.executable() {
            Ok(file) => Some(file),
            Err(error) => {
                self.found.gone = is_gone(&error);
                self.unreadable("its program", &error);
                None
            }
        };
        let program_is = program.as_ref().and_then(|file| file.metadata().ok());
        let name = self.process.executable_path().unwrap_or_default();
        if let Some(file) = program {
            self.look(&name, file, true);
        }
        let budget = self.budget;
        let (files, lacks) = budget.part(|| self.process.mapped_files(budget));
        let files = match files {
            Ok((files, whole)) => {
                if !whole {
                    self.not_all(lacks.unwrap_or(Limit::Files));
                }
                files
            }
            Err(error) => {
                self.unreadable("its mappings", &error);
                Vec::new()
            }
        };
        for mapped in files {
            let same = program_is
                .as_ref()
                .is_some_and(|status| is_same(status, &mapped) || mapped.path == name);
            if same {
                continue;
            }
            if !(budget.goes_on() && budget.take_records(1)) {
                self.not_all(budget.lacks().unwrap_or(Limit::Stopped));
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
        let ((), lacks) = budget.part(|| self.look_for_static_musl());
        self.not_through(&name, lacks);
    }

    /// A file of /proc, as far as the budget goes, and whether that was all.
    fn read(&self, name: &CStr, max: u64) -> io::Result<(Vec<u8>, bool)> {
        let (bytes, whole) = self.process.read(name, max)?;
        if !self.budget.take_bytes(bytes.len()) {
            let limit = self.budget.lacks().unwrap_or(Limit::Stopped);
            return Err(io::Error::other(limit.to_string()));
        }
        Ok((bytes, whole))
    }

    /// A static program has no library to be recognised by.
    fn look_for_static_musl(&mut self) {
        let libc = |runtime: &Runtime| matches!(runtime.kind, Kind::Glibc | Kind::Musl);
        if self.found.runtimes.list.iter().any(libc) {
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
        let budget = self.budget;
        let ((), lacks) = budget.part(|| self.look_within(path, file, is_program));
        self.not_through(path, lacks);
    }

    fn look_within(&mut self, path: &str, file: File, is_program: bool) {
        // Whatever is no ELF file has no code of its own either.
        let Some(elf) = Elf::parse(file, self.budget) else {
            return;
        };
        let linkage = if is_program { "static" } else { path };
        let plain = path.strip_suffix(" (deleted)").unwrap_or(path);

        let build_info = go::BuildInfo::read(&elf);
        if let Some(info) = &build_info {
            let mut found = go::runtime(info, &self.environment);
            found.linkage = Some(linkage.to_owned());
            self.add(found);
        }
        let marks = match &build_info {
            // Without cgo there is nothing in it but Go.
            Some(info) if info.setting("CGO_ENABLED") == Some("0") => strings::Marks::default(),
            _ => strings::marks(&elf),
        };
        let kind = match others::kind_of(plain) {
            None if is_program && elf.exported("node_module_register").is_some() => {
                Some(Kind::Node)
            }
            Some(Kind::Musl) if !others::is_musl(&elf) => None,
            kind => kind,
        };
        if marks.jemalloc || kind == Some(Kind::Jemalloc) {
            self.add_jemalloc(&elf, marks.prefix.as_deref(), linkage);
        }
        if marks.mimalloc || kind == Some(Kind::Mimalloc) {
            let options = MimallocOptions::read(&elf);
            let mut found = others::mimalloc(options, &self.environment);
            found.version = others::version(Kind::Mimalloc, plain, &elf);
            found.linkage = Some(linkage.to_owned());
            self.add(found);
        }
        if marks.tcmalloc || kind == Some(Kind::Tcmalloc) {
            let version = others::version(Kind::Tcmalloc, plain, &elf);
            let mut found = others::tcmalloc(version.as_deref(), &self.environment);
            found.linkage = Some(linkage.to_owned());
            self.add(found);
        }
        // A library that only looks like it, such as libc_malloc_debug, does not count.
        if marks.glibc && kind.is_none() && is_program {
            self.add_other(Kind::Glibc, &elf, plain, linkage);
        }
        match kind {
            None | Some(Kind::Jemalloc | Kind::Mimalloc | Kind::Tcmalloc | Kind::Go) => {}
            Some(kind) => self.add_other(kind, &elf, plain, linkage),
        }
        if is_program {
            self.program = Some(elf);
        }
    }

    fn add_other(&mut self, kind: Kind, elf: &Elf<'_, File>, path: &str, linkage: &str) {
        let version = others::version(kind, path, elf);
        let mut found =
            others::runtime(kind, version.as_deref(), &self.environment, &self.arguments);
        found.linkage = Some(linkage.to_owned());
        self.add(found);
    }

    fn add_jemalloc(&mut self, elf: &Elf<'_, File>, prefix: Option<&str>, linkage: &str) {
        let prefix = prefix.unwrap_or_default();
        let version = jemalloc::version(elf);
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
            .or_else(|| jemalloc::built_in_string(elf));
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
        // What was not read may be a setting too, or the version.
        let all_read = self.budget.take_records(self.environment.len());
        let all_read = all_read && self.budget.lacks().is_none();
        if by_environment && !(self.environment_known && all_read) {
            found.gives_back = GivesBack::Unknown;
        }
        // Of these a process has one; what comes twice is its program and its library, and the
        // one that knows its version better is right.
        let single = matches!(
            found.kind,
            Kind::Jvm | Kind::Node | Kind::DotNet | Kind::Python | Kind::Glibc | Kind::Musl
        );
        let length = |runtime: &Runtime| runtime.version.as_ref().map_or(0, String::len);
        let list = &mut self.found.runtimes.list;
        let known = list.iter().position(|other| {
            other.kind == found.kind && (single || other.linkage == found.linkage)
        });
        match known {
            Some(known) if length(&list[known]) >= length(&found) => {}
            Some(known) => list[known] = found,
            None if list.len() < MAX_RUNTIMES => list.push(found),
            None => self.problem(format!(
                "it has more than {MAX_RUNTIMES} allocators and runtimes: the others are not shown"
            )),
        }
    }

    fn unreadable(&mut self, what: &str, error: &io::Error) {
        if is_gone(error) {
            return;
        }
        self.problem(format!("{what} cannot be read: {error}"));
    }

    /// A file, or nothing where all of it was seen.
    fn not_through(&mut self, path: &str, lacks: Option<Limit>) {
        if let Some(limit) = lacks {
            self.found.cut |= limit.is_of_the_budget();
            let what = format!(
                "{path} was not looked through to its end, so that an allocator in it may be missing"
            );
            // Once is enough: the first reason is its own, a later one what that left of the budget.
            let problems = &self.found.runtimes.problems;
            if !problems.iter().any(|known| known.starts_with(&what)) {
                self.problem(format!("{what}: {limit}"));
            }
        }
    }

    fn not_all(&mut self, limit: Limit) {
        self.found.cut |= limit.is_of_the_budget();
        self.problem(format!(
            "not all of its libraries were looked at, so that an allocator in them may be missing: {limit}"
        ));
    }

    fn problem(&mut self, problem: String) {
        let problems = &mut self.found.runtimes.problems;
        if problems.contains(&problem) {
            return;
        }
        match problems.len() {
            0..MAX_PROBLEMS => problems.push(problem),
            // What is not told must not pass for nothing.
            MAX_PROBLEMS => problems.push("more of its files were not all looked at".into()),
            _ => {}
        }
    }

    fn finish(mut self) -> Look {
        self.found.runtimes.list.sort_by_key(|runtime| runtime.kind);
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
