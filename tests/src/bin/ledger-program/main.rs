//! The program that the differential tester drives: it does to its memory what it is told, and nothing else.

mod calls;
mod threads;
mod touch;

use std::ffi::CString;

use memtrace_tests::differential::protocol::{
    Entry, FD_CODE, FD_FILE, FD_MEMFD, FD_PAGEMAP, FD_SINK, FD_ZERO, FILE_PAGES, Head, How,
    IO_BASE, IO_BYTES, MAX_ENTRIES, Op, REPLY_AT, REQUEST_AT, Request, SCRATCH_AT,
};

use calls::{call, exit, own_faults};

const USAGE_AT: u64 = SCRATCH_AT + 2048;
const STATUS_AT: u64 = SCRATCH_AT + 4096;

/// What a process keeps.
struct Process {
    pid: u64,
    brk: u64,
    /// The child that does nothing, while there is one.
    held: i64,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().expect("the first argument is a file to map");
    let code = args.next().expect("the second argument is a file of code");
    let pinned = args.next().is_none_or(|word| word != "unpinned");
    set_up(&file, &code, pinned);
    let mut process = Process::new();
    loop {
        let request = hear();
        let mut head = Head::default();
        let entries = act(&mut process, &request, &mut head);
        head.pid = process.pid;
        head.brk = process.brk;
        head.entries = entries as u64;
        say(&head, entries);
    }
}

impl Process {
    /// This process, just begun.
    fn new() -> Self {
        // SAFETY: neither call changes any memory; the descriptor is this program's.
        unsafe {
            let brk = call(libc::SYS_brk, [0; 6]) as u64;
            let pid = call(libc::SYS_getpid, [0; 6]) as u64;
            let path = c"/proc/self/pagemap".as_ptr() as u64;
            let file = call(libc::SYS_open, [path, libc::O_RDONLY as u64, 0, 0, 0, 0]) as u64;
            call(libc::SYS_dup2, [file, FD_PAGEMAP as u64, 0, 0, 0, 0]);
            call(libc::SYS_close, [file, 0, 0, 0, 0, 0]);
            touch::warm_up(pid);
            Self { pid, brk, held: 0 }
        }
    }
}

/// Opens and maps all that the program has of its own.
fn set_up(file: &str, code: &str, pinned: bool) {
    // SAFETY: the addresses are far from all else, and descriptors from 20 on are free.
    unsafe {
        for (at, bytes) in [
            (IO_BASE, IO_BYTES),
            (threads::STACKS_AT, threads::STACKS_BYTES),
        ] {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let mapped = libc::mmap(at as *mut _, bytes as usize, prot, flags, -1, 0);
            assert_eq!(mapped as u64, at, "mmap of the buffers");
        }
        let open = |path: &str, flags: i32, to: i32| {
            let path = CString::new(path).expect("paths have no NUL");
            let fd = libc::open(path.as_ptr(), flags);
            assert!(fd >= 0 && libc::dup2(fd, to) == to, "open {path:?}");
            libc::close(fd);
        };
        open(file, libc::O_RDWR, FD_FILE);
        open(code, libc::O_RDONLY, FD_CODE);
        open("/dev/zero", libc::O_RDONLY, FD_ZERO);
        for to in [FD_MEMFD, FD_SINK] {
            let fd = libc::memfd_create(c"ledger".as_ptr(), 0);
            assert!(libc::ftruncate(fd, FILE_PAGES as i64 * 4096) == 0 && libc::dup2(fd, to) == to);
            libc::close(fd);
        }
        if pinned {
            memtrace_tests::area::stay_on_this_cpu();
        }
    }
    touch::catch_faults();
}

/// Waits for the next request; the end of the input ends all.
fn hear() -> Request {
    let mut got = 0;
    while got < Request::BYTES as u64 {
        let left = Request::BYTES as u64 - got;
        // SAFETY: the buffer is in the shared area.
        let read = unsafe { call(libc::SYS_read, [0, REQUEST_AT + got, left, 0, 0, 0]) };
        if read <= 0 && read != -i64::from(libc::EINTR) {
            exit(libc::SYS_exit_group);
        }
        got += read.max(0) as u64;
    }
    // SAFETY: the request is whole, and any bits make one.
    unsafe { (REQUEST_AT as *const Request).read_volatile() }
}

fn say(head: &Head, entries: usize) {
    // SAFETY: the entries stand behind the head already.
    unsafe { (REPLY_AT as *mut Head).write_volatile(*head) };
    let (mut at, mut left) = (REPLY_AT, (Head::BYTES + entries * Entry::BYTES) as u64);
    while left > 0 {
        // SAFETY: the reply is in the shared area.
        let written = unsafe { call(libc::SYS_write, [1, at, left, 0, 0, 0]) };
        if written <= 0 {
            exit(libc::SYS_exit_group);
        }
        at += written as u64;
        left -= written as u64;
    }
}

/// Does what a request asks: how many entries the reply has.
fn act(process: &mut Process, request: &Request, head: &mut Head) -> usize {
    let args = &request.args;
    // SAFETY: the entries have their place in the shared area, and nobody else writes there.
    let entries = unsafe {
        let at = (REPLY_AT + Head::BYTES as u64) as *mut Entry;
        std::slice::from_raw_parts_mut(at, MAX_ENTRIES)
    };
    let before = own_faults(USAGE_AT);
    let mut count = 0;
    match request.op {
        op if op == Op::Call as u64 => {
            let [number, a, b, c, d, e, f, _] = *args;
            // SAFETY: the tester names its arena only, or nothing at all.
            head.ret = unsafe { call(number as i64, [a, b, c, d, e, f]) };
        }
        op if op == Op::Touch as u64 => {
            let [start, pages, step, how, count_pages, ..] = *args;
            let how = How::ALL[how as usize];
            while count < pages as usize && count < MAX_ENTRIES {
                let page = start + count as u64 * step * 4096;
                entries[count] = touch::counted(page, how, process.pid, count_pages != 0);
                count += 1;
            }
        }
        op if op == Op::Fork as u64 => head.ret = fork(process),
        op if op == Op::Hold as u64 => head.ret = hold(process),
        op if op == Op::Exit as u64 => exit(libc::SYS_exit_group),
        op if op == Op::Threads as u64 => count = threads::run_all(args, entries),
        _ => head.ret = -i64::from(libc::ENOSYS),
    }
    head.faults = own_faults(USAGE_AT).wrapping_sub(before);
    count
}

/// Goes on as the child, and after its end as the parent. 0 for the child.
fn fork(process: &mut Process) -> i64 {
    // SAFETY: this process has one thread.
    let child = unsafe { call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]) };
    if child == 0 {
        die_with(process.pid);
        *process = Process::new();
        return 0;
    }
    wait_for(child);
    child
}

/// Has this process killed when its parent dies, and ends it where that has happened already.
fn die_with(parent: u64) {
    let kill = [
        libc::PR_SET_PDEATHSIG as u64,
        libc::SIGKILL as u64,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: neither call touches memory.
    unsafe {
        call(libc::SYS_prctl, kill);
        if call(libc::SYS_getppid, [0; 6]) as u64 != parent {
            exit(libc::SYS_exit_group);
        }
    }
}

fn wait_for(child: i64) {
    let mut waited = 0;
    while child > 0 && waited != child {
        // SAFETY: the status is in the shared area.
        waited = unsafe { call(libc::SYS_wait4, [child as u64, STATUS_AT, 0, 0, 0, 0]) };
        if waited < 0 && waited != -i64::from(libc::EINTR) {
            return;
        }
    }
}

/// Begins a child that only shares the pages, or ends it.
fn hold(process: &mut Process) -> i64 {
    if process.held > 0 {
        // SAFETY: the child has not been waited for, so that the pid is its own.
        unsafe { call(libc::SYS_kill, [process.held as u64, 9, 0, 0, 0, 0]) };
        wait_for(process.held);
        return -std::mem::take(&mut process.held);
    }
    // SAFETY: as in fork.
    process.held = unsafe { call(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]) };
    if process.held == 0 {
        die_with(process.pid);
        loop {
            // SAFETY: it only waits.
            unsafe { call(libc::SYS_pause, [0; 6]) };
        }
    }
    process.held
}
