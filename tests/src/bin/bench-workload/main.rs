//! What `cargo xtask bench` measures, each behaviour in a file, in one program so that there is one to build.
//!
//! `bench-workload NAME [ARGS]`. It says `ready PID`, prepares itself on `go`, acts on `act` and ends on `end`, as
//! described in `memtrace_tests::scene`; it measures itself, and tells on stdout when asked.

mod faults;
mod intervals;
mod madvise;
mod paced;
mod race;
mod rounds;
mod syscalls;
mod waits;
mod warm;

use memtrace_tests::scene::{Act, Scene, fail, number_argument};

/// A backstop only, for the longest behaviour takes a minute at the fastest.
const WATCHDOG_SECONDS: u32 = 900;

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    match name.as_str() {
        "faults" => faults::main(),
        "intervals" => intervals::main(),
        "madvise" => madvise::main(),
        "paced" => paced::main(),
        "race" => race::main(),
        "syscalls" => syscalls::main(),
        "waits" => waits::main(),
        _ => fail("no behaviour has this name"),
    }
}

/// Waits until the tracer is attached and `go` is said.
fn begin() -> Act {
    let scene = Scene::open();
    // SAFETY: alarm only sets the timer anew.
    unsafe { libc::alarm(WATCHDOG_SECONDS) };
    scene.ready()
}

/// An argument that must be there. The first one after the behaviour's name is 0.
fn argument(index: usize) -> usize {
    number_argument(index + 2).unwrap_or_else(|| fail("an argument is missing"))
}
