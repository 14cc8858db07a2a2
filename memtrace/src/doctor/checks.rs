//! The checks of the fault sources, and of what memory this machine gives and takes.

use std::io;

use super::{Check, Probe};
use crate::kernel::folios::Thp;
use crate::proc::{page_bytes, read_word};
use crate::units::Bytes;

/// The default of --ringbuf-size.
const RINGBUF_DEFAULT: Bytes = Bytes(8 << 20);

pub(super) fn fault_source(probes: &[Probe]) -> Check {
    const NAME: &str = "fault_source";
    let works: Vec<_> = probes
        .iter()
        .filter_map(|(name, result)| result.is_ok().then_some(*name))
        .collect();
    let failures: Vec<_> = probes
        .iter()
        .filter_map(|(name, result)| Some(format!("{name}: {}", result.as_ref().err()?)))
        .collect();
    match works[..] {
        [] if failures.is_empty() => Check::no(NAME, "memtrace has none for this machine"),
        [] => Check::no(
            NAME,
            format!("none could be attached: {}", told_once(probes, &failures)),
        )
        .advise("settle the lines above that begin with \"no\""),
        [first, ref others @ ..] => {
            let mut detail = format!("{first}: loaded and attached");
            if !others.is_empty() {
                detail.push_str(&format!("; {} would do too", others.join(" and ")));
            }
            if failures.is_empty() {
                return Check::ok(NAME, detail);
            }
            Check::note(NAME, format!("{detail}; not {}", failures.join("; not ")))
        }
    }
}

/// Whether what the kernel takes of lazily freed memory can be counted.
pub(super) fn counting(traces: bool, tried: Result<(), String>) -> Check {
    const NAME: &str = "reclaim_count";
    match tried {
        Ok(()) => Check::ok(
            NAME,
            "works: what the kernel takes of lazily freed memory is exact",
        ),
        Err(_) if !traces => {
            Check::note(NAME, "not tried: without a fault source nothing is traced")
        }
        Err(why) => Check::note(
            NAME,
            format!("does not work ({why}): what the kernel takes is told by bounds only"),
        ),
    }
}

/// Where every source fails for the same reason (a missing capability, say), that is told once.
fn told_once(probes: &[Probe], failures: &[String]) -> String {
    let mut reasons = probes
        .iter()
        .filter_map(|(_, result)| result.as_ref().err());
    match reasons.next() {
        // The check of tracefs has said all of that already.
        Some(first) if first.starts_with("tracefs ") => "tracefs is needed (above)".to_owned(),
        Some(first) if reasons.all(|reason| reason == first) => first.clone(),
        _ => failures.join("; "),
    }
}

/// What memory this machine gives and takes.
pub(super) fn memory() -> Vec<Check> {
    vec![
        lazy_free(try_lazy_free()),
        huge_pages(&Thp::read()),
        swap(read_word("/proc/swaps").ok().as_deref()),
        Check::ok(
            "ring_buffer",
            format!("{RINGBUF_DEFAULT} by default; raise --ringbuf-size when events are lost"),
        ),
    ]
}

pub(super) fn lazy_free(tried: io::Result<()>) -> Check {
    match tried {
        Ok(()) => Check::ok("madv_free", "works in this kernel"),
        Err(error) => Check::note(
            "madv_free",
            format!("refused ({error}): programs here fall back to MADV_DONTNEED"),
        ),
    }
}

/// Frees a page of our own lazily.
fn try_lazy_free() -> io::Result<()> {
    let len = usize::try_from(page_bytes()).unwrap_or(4096);
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is ours alone, and nobody relies on what it holds.
    let result = match unsafe { libc::madvise(page, len, libc::MADV_FREE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the mapping from above, which nothing refers to.
    unsafe { libc::munmap(page, len) };
    result
}

pub(super) fn huge_pages(thp: &Thp) -> Check {
    let detail = thp.describe();
    if !thp.folios(0, 0, None).any.is_none() {
        return Check::note(
            "huge_pages",
            format!(
                "{detail}; a fault may bring more than a page, so bytes of faults are a lower bound"
            ),
        );
    }
    Check::ok("huge_pages", detail)
}

/// `swaps`: the text of /proc/swaps, a line of headings and one for each area.
pub(super) fn swap(swaps: Option<&str>) -> Check {
    match swaps.map_or(0, |text| text.lines().count().saturating_sub(1)) {
        0 => Check::note(
            "swap",
            "none: under memory pressure the kernel can take lazily freed and file pages only",
        ),
        1 => Check::ok("swap", "one area"),
        areas => Check::ok("swap", format!("{areas} areas")),
    }
}
