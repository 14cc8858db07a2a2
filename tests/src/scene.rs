//! The workload's side of the protocol: say `ready`, wait for `go`, act, report the truth, wait for `end`.
//!
//! Nothing here may make a page fault between `go` and the end, for the tests compare fault counts
//! exactly: everything that exists when the scene opens is populated, and buffers are reused.

use std::fmt::{self, Write};
use std::io;

use crate::counters::Counters;

/// A backstop only: no workload takes a second, where it is not emulated, and a hung one must not
/// outlive its test for long.
const WATCHDOG_SECONDS: u32 = 180;
/// More stack than any workload needs, so that it never grows by surprise.
const STACK_BYTES: usize = 256 * 1024;
const LINE_BYTES: usize = 4096;

/// The set-up of a workload, up to `ready`.
pub struct Scene {
    line: Box<Line>,
    stat: Box<[u8; 1024]>,
}

/// The measured part of a workload, from `go` on.
pub struct Act {
    scene: Scene,
    at_go: Counters,
}

impl Scene {
    /// Opens with huge pages off, so that one fault is one page.
    pub fn open() -> Self {
        let scene = Self::open_unpopulated();
        populate();
        scene
    }

    /// Opens with huge pages as the machine has them.
    pub fn open_with_huge_pages() -> Self {
        disable_huge_pages(false);
        Self::open()
    }

    /// Opens without populating anything, for the image after an exec: populating makes minor
    /// faults that no tracer of faults sees.
    pub fn open_unpopulated() -> Self {
        // SAFETY: alarm only arms a timer.
        unsafe { libc::alarm(WATCHDOG_SECONDS) };
        Self {
            line: Box::new(Line::new()),
            stat: Box::new([0; 1024]),
        }
    }

    /// Says `ready` and waits for `go`. The measured part begins when it returns.
    pub fn ready(self) -> Act {
        self.ready_as(std::process::id())
    }

    /// As [`Scene::ready`], naming another process than this one as the one to trace.
    pub fn ready_as(mut self, pid: u32) -> Act {
        self.line.clear();
        let _ = writeln!(self.line, "ready {pid}");
        self.line.send();
        wait_for(b"go");
        self.act()
    }

    /// Begins the measured part at once: `go` was said before an exec.
    pub fn act(mut self) -> Act {
        let at_go = self.counters();
        Act { scene: self, at_go }
    }

    fn counters(&mut self) -> Counters {
        // SAFETY: the path is a C string, and the buffer is as long as read is told.
        let read = unsafe {
            let file = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY);
            must(file, "open(/proc/self/stat)");
            let read = libc::read(file, self.stat.as_mut_ptr().cast(), self.stat.len());
            libc::close(file);
            read
        };
        let len = usize::try_from(read).unwrap_or(0);
        match Counters::parse(&self.stat[..len]) {
            Some(counters) => counters,
            None => fail("/proc/self/stat could not be read"),
        }
    }
}

impl Act {
    /// The faults of this process since `go`, minor and major.
    pub fn faults(&mut self) -> u64 {
        (self.scene.counters() - self.at_go).all()
    }

    /// Reports the truth as one line of JSON, waits for `end` and exits.
    pub fn report(mut self, truth: &[(&str, i64)]) -> ! {
        self.tell(truth);
        self.hear("end");
        exit(0)
    }

    /// Acts each time that `word` is said and reports its truth, with the faults since then, until
    /// `end` is.
    pub fn turns<const N: usize>(
        mut self,
        word: &str,
        mut turn: impl FnMut() -> [(&'static str, i64); N],
    ) -> ! {
        self.tell(&[]);
        while hear_either(word.as_bytes(), b"end") {
            self.at_go = self.scene.counters();
            let truth = turn();
            self.tell(&truth);
        }
        exit(0)
    }

    /// Reports a part of the truth, and goes on.
    pub fn tell(&mut self, truth: &[(&str, i64)]) {
        let faults = self.scene.counters() - self.at_go;
        let line = &mut self.scene.line;
        line.clear();
        let _ = write!(
            line,
            "{{\"minflt\":{},\"majflt\":{}",
            faults.minor, faults.major
        );
        for (name, value) in truth {
            let _ = write!(line, ",\"{name}\":{value}");
        }
        let _ = writeln!(line, "}}");
        line.send();
    }

    /// Waits for another word.
    pub fn hear(&self, word: &str) {
        wait_for(word.as_bytes());
    }
}

/// The workload's argument of that index as a number; None where there is none.
pub fn number_argument(index: usize) -> Option<usize> {
    let word = std::env::args().nth(index)?;
    let Ok(number) = word.parse() else {
        fail("an argument is no number");
    };
    Some(number)
}

/// Ends the process at once: no destructors, no flushing, no faults.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit does not return and asks for nothing.
    unsafe { libc::_exit(status) }
}

/// Gives up with a reason on stderr.
pub fn fail(why: &str) -> ! {
    eprintln!("workload: {why}: {}", io::Error::last_os_error());
    exit(1)
}

/// Gives up if a libc function returned a negative value.
pub fn must(returned: i32, what: &str) {
    if returned < 0 {
        fail(what);
    }
}

/// Turns this process's huge pages off, or leaves them to the machine again.
pub fn disable_huge_pages(disable: bool) {
    // SAFETY: this prctl takes plain integers and touches no memory.
    let done = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, u64::from(disable), 0, 0, 0) };
    must(done, "prctl(PR_SET_THP_DISABLE)");
}

/// Populates all that is mapped, so that no code, data or stack page faults later.
fn populate() {
    grow_stack();
    // SAFETY: locking and unlocking change no content. The lock itself is not wanted, only that
    // locking populates every page and breaks copy-on-write for those that are writable.
    unsafe {
        must(libc::mlockall(libc::MCL_CURRENT), "mlockall");
        must(libc::munlockall(), "munlockall");
    }
}

#[inline(never)]
fn grow_stack() {
    let mut stack = [0u8; STACK_BYTES];
    // The compiler must not see that nothing reads it.
    std::hint::black_box(&mut stack);
}

/// Waits for one line on stdin.
fn wait_for(word: &[u8]) {
    hear_either(word, word);
}

/// Waits for one of two lines on stdin; true for the first. Its end means that the test is gone,
/// and so is the reason to go on.
fn hear_either(first: &[u8], second: &[u8]) -> bool {
    let mut line = [0u8; 16];
    let mut len = 0;
    loop {
        let mut byte = 0u8;
        // SAFETY: the buffer is one byte long, as read is told. One at a time, since the next
        // line may already be there.
        let read = unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
        match (read, byte) {
            (1, b'\n') if &line[..len] == first => return true,
            (1, b'\n') if &line[..len] == second => return false,
            (1, b'\n') => fail("another word was expected on stdin"),
            (1, _) if len < line.len() => {
                line[len] = byte;
                len += 1;
            }
            _ => exit(0),
        }
    }
}

/// A line of output in a buffer that is populated once.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self {
            bytes: [0; LINE_BYTES],
            len: 0,
        }
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn send(&self) {
        // SAFETY: the first `len` bytes are initialised.
        let sent = unsafe { libc::write(1, self.bytes.as_ptr().cast(), self.len) };
        if usize::try_from(sent) != Ok(self.len) {
            fail("stdout is closed");
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let Some(room) = self.bytes.get_mut(self.len..end) else {
            fail("the report is too long");
        };
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
