//! The live stream: one line for each call, run of faults and lifecycle event.

use anstyle::Style;

use super::errno;
use super::gctrace;
use super::palette::{Palette, paint};
use super::words;
use crate::ledger::event::{Mapping, MappingKind, Op, VmFlags, maps_shared};
use crate::output::escape::pad;
use crate::output::exit::Exit;
use crate::units::{Bytes, Nanos, SinceStart, counted};
use crate::view::gctrace::GoLine;
use crate::view::{CallLine, FaultRun, Line, ProcessEvent, ProcessLine};

/// Enough for most mappings; a longer name moves the rest of its line.
const MAPPING_COLUMNS: usize = 20;

/// The columns between time and outcome.
#[derive(Default)]
struct Cells {
    what: String,
    what_style: Style,
    addr: Option<u64>,
    mapping: Option<String>,
    size: Option<u64>,
    outcome: String,
    outcome_style: Style,
}

/// One line, without its end.
pub(super) fn line(line: &Line, start_ns: u64, palette: &Palette) -> String {
    let (pid, tid, cells) = match line {
        Line::Call(line) => (line.call.pid, line.call.tid, call(line, palette)),
        Line::Faults(run) => (run.pid, run.tid, faults(run, palette)),
        Line::Process(line) => return process(line, start_ns, palette),
        Line::Go(line) => return go(line, start_ns, palette),
    };
    let addr = cells
        .addr
        .map_or("-".to_owned(), |addr| format!("{addr:#x}"));
    let size = cells
        .size
        .map_or("-".to_owned(), |size| Bytes(size).to_string());
    let mapping = cells.mapping.as_deref().unwrap_or("-");
    format!(
        "{}  {}  {addr:<14}  {}  {size:>6}  {}",
        lead(line.at_ns(), start_ns, pid, tid, palette),
        paint(cells.what_style, format_args!("{:<16}", cells.what)),
        pad(mapping, MAPPING_COLUMNS),
        paint(cells.outcome_style, &cells.outcome),
    )
}

/// Time and thread.
fn lead(at_ns: u64, start_ns: u64, pid: u32, tid: u32, palette: &Palette) -> String {
    let who = if pid == tid {
        pid.to_string()
    } else {
        format!("{pid}/{tid}")
    };
    lead_of(at_ns, start_ns, &who, palette)
}

fn lead_of(at_ns: u64, start_ns: u64, who: &str, palette: &Palette) -> String {
    let time = SinceStart(at_ns.saturating_sub(start_ns));
    format!(
        "{}  {who:<11}",
        paint(palette.faint, format_args!("{time:>10}"))
    )
}

fn faults(run: &FaultRun, palette: &Palette) -> Cells {
    let refault = run.class.is_refault();
    let name = words::class(run.class);
    let what = if refault || name.contains(['-', ' ']) {
        name.to_owned()
    } else {
        format!("{name} fault")
    };
    let mut outcome = if run.zero_page_write {
        // The read before it was shown as the fault of this class.
        format!("({}) to the zero page", counted(run.faults, "first write"))
    } else {
        format!("({}) {}", counted(run.faults, "fault"), run.access.name())
    };
    if let Some(age) = run.age_ns {
        outcome += &format!(", {} after release", Nanos(age));
    }
    Cells {
        what,
        what_style: if refault {
            palette.refault
        } else {
            Style::new()
        },
        addr: Some(run.addr),
        mapping: run.mapping.as_ref().map(words::mapping),
        size: Some(run.len_bytes),
        outcome,
        outcome_style: Style::new(),
    }
}

fn call(line: &CallLine, palette: &Palette) -> Cells {
    let call = &*line.call;
    let mut cells = Cells {
        what: what(&call.op),
        addr: addr(line),
        mapping: line.mapping.as_ref().map(words::mapping),
        size: size(line),
        ..Cells::default()
    };
    if gives_back(line) {
        cells.what_style = palette.give_back;
    }
    match call.op {
        Op::Mmap { .. } => cells.mapping = Some(mapped(&call.op)),
        // The break ends the heap, where no mapping need be.
        Op::Brk { .. } => cells.mapping = Some(MappingKind::Heap.name().to_owned()),
        _ => {}
    }
    let took = Nanos(call.exit_ns.saturating_sub(call.enter_ns));
    (cells.outcome, cells.outcome_style) = match (&call.op, call.ret) {
        (Op::Unseen { .. }, Some(ret)) if failed(&call.op, ret) => (
            format!("only its end was seen; {}", explain(&call.op, ret)),
            palette.failure,
        ),
        (Op::Unseen { .. }, _) => {
            let text = "only its end was seen; its range is not known";
            (text.to_owned(), Style::new())
        }
        (_, None) => (
            "its thread died inside the call".to_owned(),
            palette.failure,
        ),
        (op, Some(ret)) if failed(op, ret) => {
            (format!("{}, {took}", explain(op, ret)), palette.failure)
        }
        (_, Some(ret)) => (format!("{}, {took}", done(line, ret)), Style::new()),
    };
    cells
}

/// The call's name; for advice, the advice.
fn what(op: &Op) -> String {
    match op {
        Op::Madvise { advice, .. } | Op::ProcessMadvise { advice, .. } => advice.to_string(),
        Op::Mmap { .. } => "mmap".to_owned(),
        Op::Munmap { .. } => "munmap".to_owned(),
        Op::Mremap { .. } => "mremap".to_owned(),
        Op::Brk { .. } => "brk".to_owned(),
        Op::Unseen { syscall } => (*syscall).to_owned(),
    }
}

/// Where the call works: for a mapping or a break that it made, that.
fn addr(line: &CallLine) -> Option<u64> {
    let call = &*line.call;
    let makes = matches!(call.op, Op::Mmap { .. } | Op::Brk { .. });
    match call.ret {
        Some(ret) if makes && !failed(&call.op, ret) => u64::try_from(ret).ok(),
        // 0 names no address: the kernel is to choose one.
        _ if makes => call.op.addr().filter(|addr| *addr > 0),
        _ => call.op.addr(),
    }
}

/// The bytes the call is about; for mremap those it asks for.
fn size(line: &CallLine) -> Option<u64> {
    let call = &*line.call;
    match call.op {
        Op::Mremap { new_len, .. } => Some(new_len),
        // It moved nothing, which is no size.
        Op::Brk { .. } => line.size_bytes().filter(|moved| *moved > 0),
        _ => line.size_bytes(),
    }
}

fn gives_back(line: &CallLine) -> bool {
    let call = &*line.call;
    match &call.op {
        Op::Madvise { advice, .. } | Op::ProcessMadvise { advice, .. } => {
            advice.give_back().is_some()
        }
        Op::Munmap { .. } => true,
        Op::Mremap {
            old_len, new_len, ..
        } => new_len < old_len,
        Op::Brk { .. } => break_moved(line) == Some(Move::Down),
        Op::Mmap { .. } | Op::Unseen { .. } => false,
    }
}

/// brk alone never returns an errno: where it refuses, the break stays as it was.
fn failed(op: &Op, ret: i64) -> bool {
    match *op {
        Op::Brk { addr } => addr != 0 && u64::try_from(ret) != Ok(addr),
        _ => ret < 0,
    }
}

fn explain(op: &Op, ret: i64) -> String {
    match op {
        Op::Brk { .. } => "refused: the break stays where it was".to_owned(),
        _ => errno::explain(op, i32::try_from(ret.unsigned_abs()).unwrap_or(i32::MAX)),
    }
}

#[derive(PartialEq, Eq)]
enum Move {
    Up,
    Down,
}

/// Which way brk moved the break; None where it did not, or where it was is not known.
fn break_moved(line: &CallLine) -> Option<Move> {
    let now = u64::try_from(line.call.ret?).ok()?;
    match now.cmp(&line.old_break?) {
        std::cmp::Ordering::Less => Some(Move::Down),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(Move::Up),
    }
}

/// What an mmap maps.
fn mapped(op: &Op) -> String {
    let Op::Mmap { flags, name, .. } = op else {
        return String::new();
    };
    let anonymous = flags & libc::MAP_ANONYMOUS as u32 != 0;
    words::mapping(&Mapping {
        kind: if anonymous {
            MappingKind::Anon
        } else {
            MappingKind::File
        },
        shared: maps_shared(*flags),
        flags: VmFlags::default(),
        name: name.clone(),
    })
}

/// What a call that succeeded did.
fn done(line: &CallLine, ret: i64) -> String {
    match line.call.op {
        Op::ProcessMadvise {
            target_pid,
            range,
            index,
            ranges,
            before_bytes,
            ..
        } => {
            let reached = (ret as u64).saturating_sub(before_bytes);
            let outcome = match range {
                None => "ok, but its range could not be read".to_owned(),
                Some((_, len)) if reached >= len => "ok".to_owned(),
                Some(_) if reached == 0 => "not reached".to_owned(),
                Some(_) => format!("applied to the first {}", Bytes(reached)),
            };
            let of = match target_pid {
                Some(pid) if pid == line.call.pid => String::new(),
                Some(pid) => format!(" of pid {pid}"),
                None => " of a process that could not be told".to_owned(),
            };
            let place = format!("range {} of {ranges}", index + 1);
            format!("{outcome} (process_madvise{of}, {place})")
        }
        Op::Mmap { prot, flags, .. } => {
            let replaced = match &line.mapping {
                Some(mapping) if flags & libc::MAP_FIXED as u32 != 0 => {
                    format!(" over {}", words::mapping(mapping))
                }
                _ => String::new(),
            };
            format!("{}{replaced}", protection(prot))
        }
        Op::Mremap {
            addr,
            old_len,
            flags,
            ..
        } => {
            let from = format!("from {}", Bytes(old_len));
            let moved = u64::try_from(ret).ok().filter(|to| *to != addr);
            match moved {
                None => from,
                Some(to) if flags & libc::MREMAP_DONTUNMAP as u32 != 0 => {
                    format!("{from}, moved to {to:#x}, the old range stays mapped")
                }
                Some(to) => format!("{from}, moved to {to:#x}"),
            }
        }
        Op::Brk { addr } => match break_moved(line) {
            Some(Move::Up) => "grew".to_owned(),
            Some(Move::Down) => "shrank".to_owned(),
            None if addr == 0 => "asked where the break is".to_owned(),
            None if line.old_break.is_some() => "stayed".to_owned(),
            None => "ok".to_owned(),
        },
        Op::Madvise { .. } | Op::Munmap { .. } | Op::Unseen { .. } => "ok".to_owned(),
    }
}

/// `rw-`, as in /proc/PID/maps.
fn protection(prot: u32) -> String {
    [
        (libc::PROT_READ, 'r'),
        (libc::PROT_WRITE, 'w'),
        (libc::PROT_EXEC, 'x'),
    ]
    .into_iter()
    .map(|(bit, letter)| if prot & bit as u32 != 0 { letter } else { '-' })
    .collect()
}

fn process(line: &ProcessLine, start_ns: u64, palette: &Palette) -> String {
    let (what, words) = match &line.event {
        ProcessEvent::Fork { parent_pid } => ("fork", format!("child of {parent_pid}")),
        ProcessEvent::Exec { comm } => ("exec", format!("is now {}", words::comm(comm))),
        ProcessEvent::Exit { status: None } => ("exit", "ended; how is not known".to_owned()),
        ProcessEvent::Exit {
            status: Some(status),
        } => ("exit", Exit::of(*status).to_string()),
    };
    format!(
        "{}  {what:<16}  {words}",
        lead(line.at_ns, start_ns, line.pid, line.pid, palette),
    )
}

fn go(line: &GoLine, start_ns: u64, palette: &Palette) -> String {
    let who = line.pid.map_or("-".to_owned(), |pid| pid.to_string());
    let (what, words) = gctrace::words(&line.event);
    format!(
        "{}  {what:<16}  {words}",
        lead_of(line.at_ns, start_ns, &who, palette)
    )
}
