//! Children and threads of a workload, made so that starting and stopping them is outside the measured part.

use std::mem::MaybeUninit;
use std::sync::{Arc, Barrier};
use std::thread;

use crate::counters::Counters;
use crate::scene::{fail, must};

/// Small, since every page of it is populated before the measured part.
const THREAD_STACK_BYTES: usize = 64 * 1024;

/// One process waits at it until another signals.
pub struct Pipe {
    read: i32,
    write: i32,
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Pipe {
    pub fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: the array has room for the two ends.
        must(unsafe { libc::pipe(ends.as_mut_ptr()) }, "pipe");
        Self {
            read: ends[0],
            write: ends[1],
        }
    }

    pub fn signal(&self) {
        // SAFETY: one byte is there to be written.
        if unsafe { libc::write(self.write, [1u8].as_ptr().cast(), 1) } != 1 {
            fail("write to a pipe");
        }
    }

    pub fn wait(&self) {
        let mut byte = 0u8;
        // SAFETY: one byte may be written to.
        if unsafe { libc::read(self.read, (&raw mut byte).cast(), 1) } != 1 {
            fail("read from a pipe");
        }
    }
}

/// fork: 0 in the child, which dies with its parent.
pub fn fork() -> i32 {
    // SAFETY: the callers have no other thread, so that the child may do what it likes.
    let child = unsafe { libc::fork() };
    must(child, "fork");
    if child == 0 {
        // SAFETY: plain integers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    child
}

/// How a child ended.
pub struct Ended {
    /// As wait(2) gives it.
    pub status: i32,
    /// All the faults of its life, to the very end.
    pub faults: Counters,
}

/// Waits for a child's end.
pub fn reap(child: i32) -> Ended {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: both are ours to be written, and are if the call succeeds.
    let usage = unsafe {
        if libc::wait4(child, &mut status, 0, usage.as_mut_ptr()) != child {
            fail("wait4");
        }
        usage.assume_init()
    };
    Ended {
        status,
        faults: Counters {
            minor: usage.ru_minflt as u64,
            major: usage.ru_majflt as u64,
        },
    }
}

/// Threads that exist, populated, before the measured part, and outlive it.
pub struct Crew {
    start: Arc<Barrier>,
    done: Arc<Barrier>,
}

impl Crew {
    /// Starts threads that wait for [`Crew::work`] or [`Crew::begin`] to do `job`, which is given the thread's number.
    pub fn hire(threads: usize, job: impl Fn(usize) + Send + Sync + 'static) -> Self {
        let [hired, start, done] = [(); 3].map(|()| Arc::new(Barrier::new(threads + 1)));
        let job = Arc::new(job);
        for number in 0..threads {
            let (hired, start, done) = (hired.clone(), start.clone(), done.clone());
            let job = job.clone();
            let begun = thread::Builder::new()
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || {
                    hired.wait();
                    start.wait();
                    job(number);
                    done.wait();
                    // A thread that ends gives its stack back, which nobody asked to measure.
                    loop {
                        thread::park();
                    }
                });
            if begun.is_err() {
                fail("a thread could not be started");
            }
        }
        hired.wait();
        Self { start, done }
    }

    /// Lets all threads work and waits until the last one is done.
    pub fn work(&self) {
        self.begin();
        self.finish();
    }

    /// Lets all threads work.
    pub fn begin(&self) {
        self.start.wait();
    }

    /// Waits until the last thread is done.
    pub fn finish(&self) {
        self.done.wait();
    }
}
