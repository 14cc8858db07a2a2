//! Turns wire records into what happened; every byte is checked, none is trusted.

use std::fmt;

use bytes::Bytes;
use memtrace_ebpf::{
    CallRecord, FaultHead, Head, LifeRecord, NOT_MEASURED, PopulatedRecord, call, call_flag,
    fault_bits, group, kind, life, pidfd, populated,
};

use crate::ledger::advice::Advice;
use crate::ledger::event::{Call, FaultBatch, Op, Populated};
use crate::ledger::faults::Entry;
use crate::ledger::space::PAGE;

/// One thing that a record tells. What only /proc can add (whose pidfd, which file) is not in it yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Faults(FaultBatch),
    Call {
        call: Call,
        /// process_madvise: the pidfd as passed.
        passed: Option<Passed>,
    },
    Populated(Populated),
    Fork {
        at_ns: u64,
        parent_pid: u32,
        /// 0 where the kernel side could not tell it in our pid namespace.
        pid: u32,
        shares_vm: bool,
    },
    /// An exec is past its point of no return; [`Record::Exec`] will say what it became.
    Prepare {
        at_ns: u64,
        pid: u32,
    },
    Exec {
        at_ns: u64,
        pid: u32,
        comm: String,
        followed: bool,
    },
    /// A process's end; or, where `group_known` is false, the end of one of its threads.
    Exit {
        at_ns: u64,
        pid: u32,
        status: Option<i32>,
        group_known: bool,
    },
}

/// The pidfd of a process_madvise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    pub fd: i32,
    /// What the kernel side found it to be.
    pub target: Pidfd,
}

/// What a pidfd was when the call entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pidfd {
    /// To be resolved while it is open.
    NotLookedAt,
    /// None, or one of a process that has no pid in our namespace.
    Nobody,
    /// The kernel refuses the call before it looks.
    Refused,
    Process(u32),
}

/// How many records of each class a chunk held, to be checked against the kernel side's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    pub faults: u64,
    pub calls: u64,
    pub lives: u64,
    pub populated: u64,
}

/// Bytes that are no record: the stream can't be read beyond them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where in the chunk.
    pub at: usize,
    pub kind: u16,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a record of kind {} at byte {} of a chunk is cut short or unknown",
            self.kind, self.at
        )
    }
}

impl std::error::Error for Malformed {}

/// Calls `take` for everything in `chunk`, whose records lie one behind the other.
///
/// # Errors
/// At the first record that is cut short or unknown; what came before it was taken.
pub fn decode(
    chunk: &Bytes,
    delivered: &mut Delivered,
    mut take: impl FnMut(Record),
) -> Result<(), Malformed> {
    let mut at = 0;
    while at < chunk.len() {
        let rest = &chunk[at..];
        let malformed = |kind| Malformed { at, kind };
        let head: Head = read(rest).ok_or(malformed(0))?;
        let bad = malformed(head.kind);
        let len = match head.kind {
            kind::FAULTS => {
                let record: FaultHead = read(rest).ok_or(bad)?;
                let len = fault_record_len(head.count)
                    .filter(|len| *len <= rest.len())
                    .ok_or(bad)?;
                delivered.faults += u64::from(head.count);
                let entries = chunk.slice(at + size_of::<FaultHead>()..at + len);
                if !entries.is_empty() {
                    let (pid, tid) = (head.pid, head.tid);
                    take(Record::Faults(FaultBatch::new(
                        record.time_ns,
                        pid,
                        tid,
                        entries,
                    )));
                }
                len
            }
            kind::CALL => {
                let record: CallRecord = read(rest).ok_or(bad)?;
                delivered.calls += 1;
                take(call_record(&record).ok_or(bad)?);
                size_of::<CallRecord>()
            }
            kind::POPULATED => {
                let record: PopulatedRecord = read(rest).ok_or(bad)?;
                delivered.populated += 1;
                take(Record::Populated(Populated {
                    at_ns: record.time_ns,
                    pid: record.head.pid,
                    tid: record.head.tid,
                    bytes: pages_bytes(record.pages),
                    in_user_fault: match record.head.detail {
                        populated::IN_USER_FAULT => true,
                        populated::IN_SYSCALL => false,
                        _ => return Err(bad),
                    },
                }));
                size_of::<PopulatedRecord>()
            }
            kind::LIFE => {
                let record: LifeRecord = read(rest).ok_or(bad)?;
                delivered.lives += 1;
                take(life_record(&record).ok_or(bad)?);
                size_of::<LifeRecord>()
            }
            _ => return Err(bad),
        };
        at += len;
    }
    Ok(())
}

/// The bytes of a fault record with so many entries.
fn fault_record_len(count: u32) -> Option<usize> {
    let entries = usize::try_from(count).ok()?.checked_mul(size_of::<u64>())?;
    entries.checked_add(size_of::<FaultHead>())
}

// Fault entries go to the ledger as they are.
const _: () = {
    assert!(Entry::PRESENT == fault_bits::PRESENT);
    assert!(Entry::WRITE == fault_bits::WRITE);
    assert!(Entry::USER == fault_bits::USER);
    assert!(Entry::INSTRUCTION == fault_bits::INSTRUCTION);
    assert!(Entry::FLAGS == fault_bits::MASK);
};

/// Records that may be read from any bytes of their size.
trait Plain: Copy {}
impl Plain for Head {}
impl Plain for FaultHead {}
impl Plain for CallRecord {}
impl Plain for LifeRecord {}
impl Plain for PopulatedRecord {}

fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are as many bytes as T has, T is made of integers only, and the read does
    // not ask for alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The kernel counts base pages, whatever folios they are in.
fn pages_bytes(pages: u64) -> u64 {
    pages.saturating_mul(PAGE)
}

fn call_record(record: &CallRecord) -> Option<Record> {
    let flags = record.head.count;
    let args = record.args;
    let mut passed = None;
    let op = if flags & call_flag::NO_ENTER != 0 {
        Op::Unseen {
            syscall: syscall_name(record.head.detail)?,
        }
    } else {
        match record.head.detail {
            call::MADVISE => Op::Madvise {
                addr: args[0],
                len: args[1],
                // The kernel takes an int: the upper half of the register is not part of it.
                advice: Advice(args[2] as i32),
            },
            call::PROCESS_MADVISE => {
                passed = Some(Passed {
                    fd: args[0] as i32,
                    target: match (args[0] >> 32) as u32 {
                        pidfd::NOT_LOOKED_AT => Pidfd::NotLookedAt,
                        pidfd::NOBODY => Pidfd::Nobody,
                        pidfd::REFUSED => Pidfd::Refused,
                        pid => Pidfd::Process(pid),
                    },
                });
                Op::ProcessMadvise {
                    target_pid: None,
                    advice: Advice(args[3] as i32),
                    range: (flags & call_flag::NO_RANGE == 0).then_some((args[1], args[2])),
                    index: args[4] as u32,
                    ranges: (args[4] >> 32) as u32,
                    before_bytes: args[5],
                }
            }
            call::MMAP => Op::Mmap {
                addr: args[0],
                len: args[1],
                prot: args[2] as u32,
                flags: args[3] as u32,
                fd: args[4] as i32,
                name: None,
            },
            call::MUNMAP => Op::Munmap {
                addr: args[0],
                len: args[1],
            },
            call::MREMAP => Op::Mremap {
                addr: args[0],
                old_len: args[1],
                new_len: args[2],
                flags: args[3] as u32,
                new_addr: args[4],
            },
            call::BRK => Op::Brk { addr: args[0] },
            _ => return None,
        }
    };
    Some(Record::Call {
        call: Call {
            pid: record.head.pid,
            tid: record.head.tid,
            enter_ns: record.enter_ns,
            exit_ns: record.exit_ns.max(record.enter_ns),
            ret: (flags & call_flag::NO_EXIT == 0).then_some(record.ret),
            op,
            released_bytes: (record.released_pages != NOT_MEASURED)
                .then(|| pages_bytes(record.released_pages)),
        },
        passed,
    })
}

fn syscall_name(detail: u16) -> Option<&'static str> {
    Some(match detail {
        call::MADVISE => "madvise",
        call::PROCESS_MADVISE => "process_madvise",
        call::MMAP => "mmap",
        call::MUNMAP => "munmap",
        call::MREMAP => "mremap",
        call::BRK => "brk",
        _ => return None,
    })
}

fn life_record(record: &LifeRecord) -> Option<Record> {
    const CLONE_VM: u64 = 0x100;
    let pid = record.head.pid;
    let at_ns = record.time_ns;
    Some(match record.head.detail {
        life::FORK => Record::Fork {
            at_ns,
            parent_pid: pid,
            pid: record.a as u32,
            shares_vm: record.b & CLONE_VM != 0,
        },
        life::EXEC => {
            let end = record.comm.iter().position(|&b| b == 0);
            let comm = &record.comm[..end.unwrap_or(record.comm.len())];
            Record::Exec {
                at_ns,
                pid,
                comm: String::from_utf8_lossy(comm).into_owned(),
                followed: record.a != 0,
            }
        }
        life::PREPARE => Record::Prepare { at_ns, pid },
        life::EXIT => Record::Exit {
            at_ns,
            pid,
            status: (record.b == group::DEAD).then_some(record.a as i32),
            group_known: record.b != group::UNKNOWN,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::event::Access;
    use memtrace_ebpf::OneFault;
    use proptest::prelude::*;

    fn bytes<T: Copy>(record: &T) -> Vec<u8> {
        // SAFETY: the wire records have no padding, so every byte is initialised.
        unsafe {
            std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>())
        }
        .to_vec()
    }

    fn head(kind: u16, detail: u16, count: u32) -> Head {
        Head {
            kind,
            detail,
            count,
            pid: 7,
            tid: 8,
        }
    }

    fn records(chunk: &[u8]) -> (Vec<Record>, Delivered, Result<(), Malformed>) {
        let (mut records, mut delivered) = (Vec::new(), Delivered::default());
        let chunk = Bytes::copy_from_slice(chunk);
        let result = decode(&chunk, &mut delivered, |record| records.push(record));
        (records, delivered, result)
    }

    #[test]
    fn a_batch_of_faults_is_one_record_with_one_stamp() {
        let fault = FaultHead {
            head: head(kind::FAULTS, 0, 2),
            time_ns: 99,
            ..FaultHead::default()
        };
        let mut chunk = bytes(&fault);
        chunk.extend(0x7000_1000u64.to_ne_bytes());
        chunk.extend(0x7000_2007u64.to_ne_bytes());
        let (records, delivered, result) = records(&chunk);
        assert_eq!(result, Ok(()));
        assert_eq!(delivered.faults, 2);
        let [Record::Faults(batch)] = &records[..] else {
            panic!("{records:?}");
        };
        let faults: Vec<_> = batch.faults().collect();
        let [first, second] = faults[..] else {
            panic!("{faults:?}");
        };
        assert_eq!((first.addr, first.access), (0x7000_1000, Access::Read));
        assert!(first.by_kernel && !first.present);
        assert_eq!((second.addr, second.access), (0x7000_2000, Access::Write));
        assert!(!second.by_kernel && second.present);
        assert_eq!((second.pid, second.tid, second.at_ns), (7, 8, 99));
    }

    #[test]
    fn the_upper_half_of_an_advice_is_not_part_of_it() {
        let record = CallRecord {
            head: head(kind::CALL, call::MADVISE, 0),
            enter_ns: 1,
            exit_ns: 2,
            args: [0x1000, 0x2000, 0xdead_beef_0000_0008, 0, 0, 0],
            ..CallRecord::default()
        };
        let (records, delivered, _) = records(&bytes(&record));
        assert_eq!(delivered.calls, 1);
        let Record::Call { call, passed: None } = &records[0] else {
            panic!("{records:?}");
        };
        let Op::Madvise { advice, .. } = call.op else {
            panic!("{call:?}");
        };
        assert_eq!(advice, Advice::FREE);
        assert_eq!(call.ret, Some(0));
    }

    #[test]
    fn a_thread_that_dies_in_a_call_leaves_it_without_result() {
        let record = CallRecord {
            head: head(kind::CALL, call::MUNMAP, call_flag::NO_EXIT),
            ..CallRecord::default()
        };
        let (records, ..) = records(&bytes(&record));
        let Record::Call { call, .. } = &records[0] else {
            panic!("{records:?}");
        };
        assert_eq!(call.ret, None);
    }

    #[test]
    fn what_came_before_a_cut_record_is_kept() {
        let fault = OneFault {
            fault: FaultHead {
                head: head(kind::FAULTS, 0, 1),
                ..FaultHead::default()
            },
            entry: 0x1000,
        };
        let mut chunk = bytes(&fault);
        chunk.extend(&bytes(&fault)[..size_of::<OneFault>() - 1]);
        let (records, delivered, result) = records(&chunk);
        assert_eq!((records.len(), delivered.faults), (1, 1));
        assert_eq!(
            result,
            Err(Malformed {
                at: size_of::<OneFault>(),
                kind: kind::FAULTS
            })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(chunk in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = records(&chunk);
        }

        #[test]
        fn no_bytes_behind_a_head_make_it_panic(
            kind in 0..5u16, detail in 0..9u16, count in prop_oneof![0..9u32, any::<u32>()],
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut chunk = bytes(&head(kind, detail, count));
            chunk.extend(rest);
            let _ = records(&chunk);
        }
    }
}
