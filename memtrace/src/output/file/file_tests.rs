//! Tests of files that are to begin with the first byte written.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::proc::{is_root, not_run};

/// An empty folder, gone with its guard.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memtrace-file-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn find(path: &Path) -> OutputFile {
    OutputFile::find(path, &|| None).unwrap()
}

#[test]
fn a_file_is_as_it_was_until_the_first_byte() {
    let folder = Folder::new();
    let path = folder.join("old");
    fs::write(&path, "of the last run, and long").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut file = find(&path);
    file.flush().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "of the last run, and long"
    );
    file.write_all(b"new ").unwrap();
    file.write_all(b"run").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new run");
    // What it was allowed stays so.
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

#[test]
fn a_new_file_is_made_by_the_first_byte_for_its_owner_alone() {
    let folder = Folder::new();
    let path = folder.join("new");
    let mut file = find(&path);
    file.flush().unwrap();
    assert!(!path.exists());
    file.write_all(b"run").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "run");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn what_comes_into_the_place_meanwhile_is_looked_at_anew() {
    let folder = Folder::new();
    let path = folder.join("new");
    let mut file = find(&path);
    fs::write(&path, "of another run").unwrap();
    file.write_all(b"mine").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

    if !is_root() {
        return not_run(
            "only root can make a link of another user's",
            "run the tests as root",
        );
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(folder.join("victim"), "precious").unwrap();
    let path = folder.join("newer");
    let mut file = find(&path);
    symlink("victim", &path).unwrap();
    std::os::unix::fs::lchown(&path, Some(65534), None).unwrap();
    let error = file.write_all(b"mine").unwrap_err().to_string();
    assert!(error.contains("symbolic link of user 65534"), "{error}");
    assert_eq!(
        fs::read_to_string(folder.join("victim")).unwrap(),
        "precious"
    );
}

#[test]
fn a_descriptor_that_appends_goes_on_appending() {
    let folder = Folder::new();
    let path = folder.join("log");
    fs::write(&path, "before\n").unwrap();
    let log = OpenOptions::new().append(true).open(&path).unwrap();
    // As one that a shell has opened.
    // SAFETY: plain integers; the descriptor is ours.
    unsafe { libc::fcntl(log.as_raw_fd(), libc::F_SETFD, 0) };
    let name = format!("/dev/fd/{}", log.as_raw_fd());
    find(Path::new(&name)).write_all(b"run\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nrun\n");
}

fn fifo(folder: &Folder) -> PathBuf {
    let path = folder.join("fifo");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    path
}

#[test]
fn a_signal_ends_the_wait_for_a_fifos_reader() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let asked = Cell::new(0);
    let stopped = || {
        asked.set(asked.get() + 1);
        (asked.get() == 3).then_some(libc::SIGTERM)
    };
    let error = OutputFile::find(&path, &stopped).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Stopped>().map(Stopped::exit_code),
        Some(143)
    );
    assert!(error.to_string().contains("ended by SIGTERM"), "{error}");
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
}

#[test]
fn a_fifo_is_written_once_it_is_read() {
    let folder = Folder::new();
    let path = fifo(&folder);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut text = String::new();
            fs::File::open(&path)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        });
        let mut file = find(&path);
        // Longer than a pipe holds: it waits for the reader instead of failing.
        let long = "x".repeat(200_000);
        file.write_all(long.as_bytes()).unwrap();
        drop(file);
        assert_eq!(reader.join().unwrap().len(), 200_000);
    });
}

#[test]
fn devices_are_written_and_errors_name_the_file() {
    find(Path::new("/dev/null")).write_all(b"x").unwrap();
    let error = find(Path::new("/dev/full")).write_all(b"x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"/dev/full\" (-o): No space left on device (os error 28): make room, or name a file elsewhere"
    );
    let folder = Folder::new();
    let _socket = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    let error = OutputFile::find(&folder.join("socket"), &|| None).unwrap_err();
    assert!(error.to_string().contains("a socket"), "{error}");
}
