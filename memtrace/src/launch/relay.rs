//! Passes a command's stderr on to our own, byte for byte, and hands memtrace a copy.
//!
//! It is a process of its own, since the command is to have an stderr that works whatever becomes of
//! memtrace: one that was killed, or has ended after `--duration`, would leave it a broken pipe. The
//! process ends when nobody holds the command's stderr any more. It waits for our stderr as the command
//! would have waited, never for memtrace: what memtrace does not take in time is left out of the copy,
//! and told.

use std::io::{self, PipeWriter, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::PoisonError;

use super::child::{errno, reset_signals};
use super::worker::{BlockedSignals, FORK};

/// What is passed on at once.
const BUFFER: usize = 64 * 1024;
/// A write of no more than this to a pipe is whole or is refused (pipe(7): PIPE_BUF).
const FRAME: usize = 4096;
/// Before the bytes of a frame: how many were left out before it, and how many it has.
const HEAD: usize = 8;
/// In the place of a length: no more is copied, and the process lives on.
const LIVES_ON: u32 = u32::MAX;
/// The most that a user may ask for, by default.
const COPY_BYTES: libc::c_int = 1 << 20;

/// Where the process finds its descriptors.
const INPUT: RawFd = 0;
const COPY: RawFd = 1;
const OUTPUT: RawFd = 2;
const CONTROL: RawFd = 3;

/// Our side of the process.
pub struct Relay {
    pub copies: Copies,
    pub end: End,
}

/// The bytes that were passed on.
pub struct Copies {
    pipe: io::PipeReader,
    process: libc::pid_t,
}

/// Ends the copy: dropped, it has the process copy what is there by then, and no more.
pub struct End(#[allow(dead_code, reason = "only its end of life is of use")] PipeWriter);

/// Starts the process. The descriptor is to be the command's stderr, and to be closed by us then.
///
/// # Errors
/// When the system is out of processes or descriptors.
pub fn start() -> io::Result<(Relay, OwnedFd)> {
    start_onto(OUTPUT)
}

fn start_onto(output: RawFd) -> io::Result<(Relay, OwnedFd)> {
    // No process that is forked meanwhile may keep these pipes open.
    let lock = FORK.lock().unwrap_or_else(PoisonError::into_inner);
    let (input, stderr) = io::pipe()?;
    let (copy, copy_end) = io::pipe()?;
    let (control, end) = io::pipe()?;
    // SAFETY: plain integers; the descriptor is open.
    unsafe {
        libc::fcntl(copy_end.as_raw_fd(), libc::F_SETPIPE_SZ, COPY_BYTES);
        libc::fcntl(copy_end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
    }
    let blocked = BlockedSignals::all();
    // SAFETY: the child does only what `run` says it may.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let fds = [
            input.as_raw_fd(),
            copy_end.as_raw_fd(),
            output,
            control.as_raw_fd(),
        ];
        // SAFETY: this is the child, with all signals blocked.
        unsafe { run(fds) }
    }
    let error = io::Error::last_os_error();
    drop(blocked);
    drop(lock);
    if pid < 0 {
        return Err(error);
    }
    let relay = Relay {
        copies: Copies {
            pipe: copy,
            process: pid,
        },
        end: End(end),
    };
    Ok((relay, stderr.into()))
}

impl Copies {
    /// Waits for bytes, and adds them to `bytes`; how many were left out before them. None at the end.
    ///
    /// # Errors
    /// Those of read(2), and where the process died in the middle.
    pub fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<u32>> {
        let mut head = [0; HEAD];
        match self.pipe.read(&mut head)? {
            0 => {
                self.reap();
                return Ok(None);
            }
            // As it was written whole, it comes whole.
            HEAD => {}
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        let [a, b, c, d, e, f, g, h] = head;
        let left_out = u32::from_ne_bytes([a, b, c, d]);
        let len = u32::from_ne_bytes([e, f, g, h]);
        if len == LIVES_ON {
            return Ok(None);
        }
        let start = bytes.len();
        bytes.resize(start + (len as usize).min(FRAME), 0);
        self.pipe.read_exact(&mut bytes[start..])?;
        Ok(Some(left_out))
    }

    /// Nobody else would, where the first process of a container reaps nothing. It is on its way out, and not
    /// waited for if it should not be.
    fn reap(&self) {
        for _ in 0..100 {
            // SAFETY: the status may be null; the process is our own child.
            let reaped =
                unsafe { libc::waitpid(self.process, std::ptr::null_mut(), libc::WNOHANG) };
            if reaped != 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// The process's whole life. Nothing in it allocates, locks or panics: it is a copy of one thread of several.
///
/// # Safety
/// To be called in the child of a fork only, with all signals blocked.
unsafe fn run(fds: [RawFd; 4]) -> ! {
    // SAFETY: only system calls, on descriptors of this process and on memory of its own.
    unsafe {
        // Whatever ends the command ends its stderr, and so this: it must outlive Ctrl-C as the
        // command may.
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
        reset_signals();
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::prctl(libc::PR_SET_NAME, c"memtrace-stderr".as_ptr());
        // By way of higher numbers, so that none is overwritten before it was moved.
        let [input, copy, output, control] = fds.map(|fd| libc::fcntl(fd, libc::F_DUPFD, 10));
        let moved = libc::dup2(input, INPUT) == INPUT
            && libc::dup2(copy, COPY) == COPY
            && libc::dup2(output, OUTPUT) == OUTPUT
            && libc::dup2(control, CONTROL) == CONTROL;
        // Ours among them: the BPF programs would stay loaded with this process.
        libc::syscall(libc::SYS_close_range, CONTROL + 1, u32::MAX, 0);
        if !moved {
            libc::_exit(1);
        }
        pass_on_all();
        libc::_exit(0)
    }
}

/// Until nobody holds the other end any more.
unsafe fn pass_on_all() {
    let mut buffer = [0u8; BUFFER];
    let mut copies = Some(0u32);
    // No more is copied than is there.
    let mut ending = false;
    loop {
        let wanted = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // A negative descriptor is passed over by poll.
        let listens = copies.is_some() && !ending;
        let mut polled = [wanted(INPUT), wanted(if listens { CONTROL } else { -1 })];
        let at_once = ending && copies.is_some();
        // SAFETY: the array is of the length told.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, if at_once { 0 } else { -1 }) };
        if ready < 0 {
            if errno() == libc::EINTR {
                continue;
            }
            return;
        }
        if polled[0].revents != 0 {
            // SAFETY: no more is read than there is room for.
            let read = unsafe { libc::read(INPUT, buffer.as_mut_ptr().cast(), BUFFER) };
            match usize::try_from(read) {
                Ok(read @ 1..) => {
                    let bytes = buffer.get(..read).unwrap_or_default();
                    pass_on(bytes);
                    if let Some(left_out) = &mut copies {
                        copy(bytes, left_out);
                    }
                }
                Err(_) if matches!(errno(), libc::EINTR | libc::EAGAIN) => {}
                _ => {
                    if let Some(left_out) = &mut copies {
                        tell_left_out(left_out);
                    }
                    return;
                }
            }
        } else if at_once {
            // All that was there is copied: memtrace reads the end.
            if let Some(left_out) = &mut copies {
                tell_left_out(left_out);
                write_frame(&[], LIVES_ON, left_out);
            }
            copies = None;
            // SAFETY: both are this process's own.
            unsafe {
                libc::close(COPY);
                libc::close(CONTROL);
            }
        }
        ending |= polled[1].revents != 0;
    }
}

/// Writes to our stderr. What it does not take, because nobody reads it any more, is dropped: the command
/// would have been told, but nothing can tell it now.
fn pass_on(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice is of the length told.
        let written = unsafe { libc::write(OUTPUT, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(_) if errno() == libc::EINTR => {}
            // Someone who shares it made it so.
            Err(_) if errno() == libc::EAGAIN => {
                let mut output = libc::pollfd {
                    fd: OUTPUT,
                    events: libc::POLLOUT,
                    revents: 0,
                };
                // SAFETY: one entry is told and there.
                unsafe { libc::poll(&mut output, 1, -1) };
            }
            Err(_) => return,
        }
    }
}

/// Tells of what was left out last, behind which nothing comes that could.
fn tell_left_out(left_out: &mut u32) {
    if *left_out > 0 {
        let mut room = libc::pollfd {
            fd: COPY,
            events: libc::POLLOUT,
            revents: 0,
        };
        // Memtrace reads, or is gone; if it is stopped, it is not waited for long.
        // SAFETY: one entry is told and there.
        unsafe { libc::poll(&mut room, 1, 1000) };
        write_frame(&[], 0, left_out);
    }
}

/// Hands memtrace the bytes in frames, or counts them as left out where it does not keep up.
fn copy(bytes: &[u8], left_out: &mut u32) {
    for part in bytes.chunks(FRAME - HEAD) {
        write_frame(part, part.len() as u32, left_out);
    }
}

/// `part` has room in a frame behind its head.
fn write_frame(part: &[u8], len: u32, left_out: &mut u32) {
    let [a, b, c, d] = left_out.to_ne_bytes();
    let [e, f, g, h] = len.to_ne_bytes();
    let head = [a, b, c, d, e, f, g, h];
    let mut frame = [0u8; FRAME];
    for (to, from) in frame.iter_mut().zip(head.iter().chain(part)) {
        *to = *from;
    }
    // SAFETY: no more is written than the frame has.
    let written = unsafe { libc::write(COPY, frame.as_ptr().cast(), HEAD + part.len()) };
    *left_out = match written {
        ..0 => left_out.saturating_add(part.len() as u32),
        _ => 0,
    };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    /// The process, the command's end, and what comes out at ours.
    fn started() -> (Relay, File, io::PipeReader) {
        let (output, end) = io::pipe().expect("a pipe");
        let (relay, stderr) = start_onto(end.as_raw_fd()).expect("it starts");
        (relay, File::from(stderr), output)
    }

    /// All that is copied, and how much was left out.
    fn copied(copies: &mut Copies) -> (Vec<u8>, u64) {
        let (mut bytes, mut left_out) = (Vec::new(), 0);
        while let Some(missing) = copies.read(&mut bytes).expect("the process lives") {
            left_out += u64::from(missing);
        }
        (bytes, left_out)
    }

    fn all(mut output: io::PipeReader) -> Vec<u8> {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    }

    #[test]
    fn every_byte_is_passed_on_and_copied() {
        let (mut relay, mut stderr, output) = started();
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let written = bytes.clone();
        let writer = std::thread::spawn(move || {
            for part in written.chunks(10_007) {
                stderr.write_all(part).expect("it takes all");
            }
        });
        let reader = std::thread::spawn(move || all(output));
        let (copy, left_out) = copied(&mut relay.copies);
        writer.join().expect("it writes");
        assert_eq!(reader.join().expect("it reads").len(), bytes.len());
        assert_eq!((copy == bytes, left_out), (true, 0));
    }

    #[test]
    fn a_part_of_a_line_is_passed_on_at_once() {
        let (_relay, mut stderr, mut output) = started();
        stderr.write_all(b"Password: ").expect("it takes all");
        let mut seen = [0; 10];
        // The writer holds its end open, and waits: so would a person.
        output.read_exact(&mut seen).expect("it comes");
        assert_eq!(&seen, b"Password: ");
    }

    #[test]
    fn a_memtrace_that_reads_nothing_holds_nobody_up_and_is_told_of_what_it_missed() {
        let (mut relay, mut stderr, output) = started();
        // More than all pipes on the way can hold.
        let total = 8 << 20;
        let reader = std::thread::spawn(move || all(output).len());
        for _ in 0..total >> 16 {
            stderr.write_all(&[b'x'; 1 << 16]).expect("it takes all");
        }
        drop(stderr);
        let (copy, left_out) = copied(&mut relay.copies);
        assert_eq!(reader.join().expect("it reads"), total);
        assert_eq!(copy.len() as u64 + left_out, total as u64);
        assert!(left_out > 0, "{} copied", copy.len());
    }

    #[test]
    fn what_is_there_is_copied_at_the_end_though_the_other_end_stays_open() {
        let (mut relay, mut stderr, mut output) = started();
        stderr.write_all(b"gc 1 @0").expect("it takes all");
        drop(relay.end);
        assert_eq!(copied(&mut relay.copies), (b"gc 1 @0".to_vec(), 0));
        // Nobody copies any more, and yet all is passed on.
        drop(relay.copies);
        stderr.write_all(b"and more").expect("it takes all");
        drop(stderr);
        let mut seen = Vec::new();
        output.read_to_end(&mut seen).expect("a pipe can be read");
        assert_eq!(seen, b"gc 1 @0and more");
    }

    #[test]
    fn a_stderr_that_nobody_reads_ends_no_command() {
        let (mut relay, mut stderr, output) = started();
        drop(output);
        for _ in 0..3 {
            stderr.write_all(b"x").expect("it takes all");
        }
        drop(stderr);
        assert_eq!(copied(&mut relay.copies), (b"xxx".to_vec(), 0));
    }
}
