//! A program on a terminal of its own, which ends with its guard.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::scene::must;
use crate::screen::Screen;
use crate::wait;

/// What a terminal sends for Ctrl-C.
pub const CTRL_C: u8 = 3;

/// A program whose stdin, stdout and stderr are a terminal, in the foreground of a session of its own.
pub struct Session {
    child: Child,
    terminal: File,
    columns: u16,
    rows: u16,
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Session {
    /// Starts a program on a terminal of that size.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let (terminal, end) = open(columns, rows);
        let another = || end.try_clone().expect("there are descriptors left");
        command
            .stdin(another())
            .stdout(another())
            .stderr(another())
            // Whatever this test's own terminal is.
            .env("TERM", "xterm")
            .env_remove("NO_COLOR");
        // SAFETY: both calls are async-signal-safe, and stdin is the terminal by then.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let bytes = Arc::default();
        let reader = read_all(&terminal, &bytes);
        Self {
            child,
            terminal,
            columns,
            rows,
            bytes,
            reader,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clone()
    }

    /// The screen as it is now.
    pub fn screen(&self) -> Screen {
        Screen::of(&self.bytes(), self.columns.into(), self.rows.into())
    }

    /// Waits until the screen is as it should be.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut(&Screen) -> bool) -> Screen {
        wait::until(what, || Some(self.screen()).filter(&mut is_so))
    }

    /// What a hand at the keyboard does.
    pub fn press(&mut self, key: u8) {
        self.terminal.write_all(&[key]).expect("it is open");
    }

    /// Sends the program alone a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been reaped, so that the pid is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Makes the terminal another size. What was written before is shown as it was then.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        set_size(self.terminal.as_raw_fd(), columns, rows);
    }

    /// Waits for the program's end, and that of all it has left on the terminal.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait::until("the program's end", || {
            self.child.try_wait().expect("it is our child")
        });
        wait::until("the terminal's last byte", || {
            self.reader.is_finished().then_some(())
        });
        status
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Killing by pid is safe: it has not been reaped, or kill does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our side of a new terminal, and the programs' side.
fn open(columns: u16, rows: u16) -> (File, OwnedFd) {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: each descriptor is new, and nobody else's; the settings are written before they are read.
    unsafe {
        let ours = libc::posix_openpt(flags);
        must(ours, "posix_openpt");
        must(libc::unlockpt(ours), "unlockpt");
        set_size(ours, columns, rows);
        let theirs = libc::ioctl(ours, libc::TIOCGPTPEER, flags);
        must(theirs, "TIOCGPTPEER");
        // By default Ctrl-C throws away what was written and not yet read.
        let mut settings = MaybeUninit::<libc::termios>::uninit();
        must(libc::tcgetattr(theirs, settings.as_mut_ptr()), "tcgetattr");
        let mut settings = settings.assume_init();
        settings.c_lflag |= libc::NOFLSH;
        must(
            libc::tcsetattr(theirs, libc::TCSANOW, &settings),
            "tcsetattr",
        );
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

fn set_size(terminal: RawFd, columns: u16, rows: u16) {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the size outlives the call.
    let done = unsafe { libc::ioctl(terminal, libc::TIOCSWINSZ, &size) };
    must(done, "TIOCSWINSZ");
}

/// Gathers what is written, until nobody has the other side open any more.
fn read_all(terminal: &File, bytes: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let mut terminal = terminal.try_clone().expect("there are descriptors left");
    let bytes = Arc::clone(bytes);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // At the end it is no end of file, but an error.
        while let Ok(read @ 1..) = terminal.read(&mut buffer) {
            let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
            bytes.extend_from_slice(&buffer[..read]);
        }
    })
}
