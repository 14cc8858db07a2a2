//! What the random program and the tester say to each other: one fixed-size request, one reply with entries.
//!
//! The program allocates nothing and decides nothing. It makes the calls that it is told to make, at the
//! addresses that it is told, so that all it does to its memory is known on the other side.

/// Where the program's buffers lie: shared memory, which a fork copies no page of.
pub const IO_BASE: u64 = 0x3000_0000_0000;
pub const IO_BYTES: u64 = 128 << 10;
/// The parts of it.
pub const REQUEST_AT: u64 = IO_BASE;
pub const REPLY_AT: u64 = IO_BASE + (8 << 10);
pub const SCAN_AT: u64 = IO_BASE + (32 << 10);
pub const SCRATCH_AT: u64 = IO_BASE + (64 << 10);

/// Words that a request may carry, for an iovec.
pub const DATA_WORDS: usize = 32;
/// The address of a request's data, in the program.
pub const DATA_AT: u64 = REQUEST_AT + 9 * 8;
/// Entries that a reply may have: pages of a touch, or threads.
pub const MAX_ENTRIES: usize = 2048;

/// Descriptors of the program.
pub const FD_FILE: i32 = 20;
pub const FD_MEMFD: i32 = 21;
pub const FD_ZERO: i32 = 22;
pub const FD_SINK: i32 = 23;
pub const FD_CODE: i32 = 24;
pub const FD_PAGEMAP: i32 = 25;

/// Pages of each file that can be mapped.
pub const FILE_PAGES: u64 = 1024;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Op {
    /// A system call: its number and six arguments.
    Call = 1,
    /// Touches pages one by one: address, pages, step in pages, [`How`], whether to count what each brings.
    Touch = 2,
    /// Forks: the child answers, and goes on; the parent waits for its end.
    Fork = 3,
    /// Ends this process; a parent that waits answers.
    Exit = 4,
    /// Threads that each write to pages and give them back, again and again:
    /// address, pages, threads, rounds, advice, pages from one thread's first page to the next one's.
    Threads = 5,
    /// Forks a child that does nothing but share the pages, until the next of these, which ends it.
    Hold = 6,
}

/// How a page is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum How {
    Read = 0,
    Write = 1,
    Exec = 2,
    /// read(2) into it.
    KernelWrite = 3,
    /// pwrite(2) from it.
    KernelRead = 4,
    /// process_vm_writev into it, which makes no fault.
    RemoteWrite = 5,
    /// process_vm_readv from it, likewise.
    RemoteRead = 6,
}

impl How {
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::Exec,
        Self::KernelWrite,
        Self::KernelRead,
        Self::RemoteWrite,
        Self::RemoteRead,
    ];

    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::KernelWrite | Self::RemoteWrite)
    }

    /// Whether the kernel finds the page by itself, so that no fault is made.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::RemoteWrite | Self::RemoteRead)
    }

    pub fn is_kernel(self) -> bool {
        matches!(self, Self::KernelWrite | Self::KernelRead)
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Request {
    pub op: u64,
    pub args: [u64; 8],
    pub data: [u64; DATA_WORDS],
}

impl Request {
    pub const BYTES: usize = size_of::<Self>();

    pub fn new(op: Op, args: &[u64]) -> Self {
        let mut request = Self {
            op: op as u64,
            args: [0; 8],
            data: [0; DATA_WORDS],
        };
        request.args[..args.len()].copy_from_slice(args);
        request
    }

    pub fn bytes(&self) -> Vec<u8> {
        let words = [self.op].into_iter().chain(self.args).chain(self.data);
        words.flat_map(u64::to_ne_bytes).collect()
    }
}

/// The beginning of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Head {
    /// What the call returned.
    pub ret: i64,
    /// The process that answers, and its break when it began.
    pub pid: u64,
    pub brk: u64,
    /// minflt and majflt of this thread, by how much they grew.
    pub faults: u64,
    pub entries: u64,
}

impl Head {
    pub const BYTES: usize = size_of::<Self>();

    pub fn parse(bytes: &[u8]) -> Self {
        let word = |index: usize| {
            let bytes = bytes[index * 8..index * 8 + 8].try_into();
            u64::from_ne_bytes(bytes.expect("8 bytes are 8"))
        };
        Self {
            ret: word(0) as i64,
            pid: word(1),
            brk: word(2),
            faults: word(3),
            entries: word(4),
        }
    }
}

/// What one touch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// Faults by the thread's own count.
    pub faults: u16,
    /// 1: SIGSEGV, SIGBUS, or an error of the call.
    pub refused: u16,
    /// Pages around it that are there now and were not before, where asked for; the zero page is none.
    pub came: i32,
}

impl Entry {
    pub const BYTES: usize = size_of::<Self>();

    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            faults: u16::from_ne_bytes([bytes[0], bytes[1]]),
            refused: u16::from_ne_bytes([bytes[2], bytes[3]]),
            came: i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }
}

/// An argument of ioctl(PAGEMAP_SCAN) (include/uapi/linux/fs.h: struct pm_scan_arg).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Scan {
    pub size: u64,
    pub flags: u64,
    pub start: u64,
    pub end: u64,
    pub walk_end: u64,
    pub vec: u64,
    pub vec_len: u64,
    pub max_pages: u64,
    pub category_inverted: u64,
    pub category_mask: u64,
    pub category_anyof_mask: u64,
    pub return_mask: u64,
}

/// A run of pages that PAGEMAP_SCAN found alike.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ScanRegion {
    pub start: u64,
    pub end: u64,
    pub categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
pub const PAGEMAP_SCAN: u64 = 0xc060_6610;
pub const PAGE_IS_FILE: u64 = 1 << 2;
pub const PAGE_IS_PRESENT: u64 = 1 << 3;
pub const PAGE_IS_SWAPPED: u64 = 1 << 4;
pub const PAGE_IS_PFNZERO: u64 = 1 << 5;
pub const PAGE_IS_HUGE: u64 = 1 << 6;

impl Scan {
    /// Runs of pages that are there, in a range.
    pub fn present(start: u64, end: u64, vec: u64, vec_len: u64) -> Self {
        Self {
            size: size_of::<Self>() as u64,
            start,
            end,
            vec,
            vec_len,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_FILE
                | PAGE_IS_PRESENT
                | PAGE_IS_SWAPPED
                | PAGE_IS_PFNZERO
                | PAGE_IS_HUGE,
            ..Self::default()
        }
    }
}
