//! What a call was really applied to: errors do not mean that nothing happened.

use std::ops::Range;

use super::advice::Advice;
use super::event::MappingKind;
use super::space::{PAGE, PMD, Space};

/// The bits of a pointer that address memory; x86 may tag the ones above (LAM, up to 62:57).
const ADDRESS_BITS: u64 = (1 << 57) - 1;

/// INT_MAX rounded down to pages (include/linux/fs.h).
const MAX_RW_COUNT: u64 = 0x7fff_f000;

/// Where a call took effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub ranges: Vec<Range<u64>>,
    /// Where it may have taken effect, and nothing tells.
    pub unknown: Option<Range<u64>>,
    /// It failed, yet took effect in part.
    pub partial: bool,
}

impl Applied {
    pub fn bytes(&self) -> u64 {
        self.ranges
            .iter()
            .fold(0, |sum: u64, r| sum.saturating_add(r.end - r.start))
    }

    fn whole(range: Range<u64>) -> Self {
        Self {
            ranges: if range.is_empty() {
                vec![]
            } else {
                vec![range]
            },
            ..Self::default()
        }
    }

    fn nothing() -> Self {
        Self::default()
    }

    fn unknown(range: Range<u64>) -> Self {
        Self {
            unknown: Some(range),
            ..Self::default()
        }
    }

    fn partly(ranges: Vec<Range<u64>>) -> Self {
        Self {
            partial: !ranges.is_empty(),
            ranges,
            unknown: None,
        }
    }
}

/// The pages that `addr` and `len` name; None where they wrap.
pub fn page_range(addr: u64, len: u64) -> Option<Range<u64>> {
    let start = addr & ADDRESS_BITS;
    let len = len.checked_next_multiple_of(PAGE)?;
    Some(start..start.checked_add(len)?)
}

/// The whole aligned huge pages in a range, all that MADV_COLLAPSE works on.
pub fn huge_pages(range: &Range<u64>) -> Range<u64> {
    range.start.next_multiple_of(PMD)..range.end - range.end % PMD
}

/// True for the values by which the kernel says that it will start the call anew
/// (include/linux/errno.h: ERESTARTSYS and kin): no program ever sees them.
pub fn is_restart(ret: i64) -> bool {
    matches!(ret, -514..=-512 | -516)
}

/// Where `madvise(addr, len, advice)` took effect, seen that it returned `ret`
/// (mm/madvise.c:do_madvise, madvise_walk_vmas).
pub fn madvise(space: &Space, advice: Advice, addr: u64, len: u64, ret: Option<i64>) -> Applied {
    let Some(range) = page_range(addr, len) else {
        return Applied::nothing();
    };
    let range = without_broken_page(space, advice, range);
    match ret {
        Some(0..) => Applied::whole(range),
        // Refused before anything was looked at.
        _ if !range.start.is_multiple_of(PAGE) || range.is_empty() => Applied::nothing(),
        // These may meet a page on the way that can't be had (mm/madvise.c:madvise_populate).
        Some(ret) if ret == -i64::from(libc::EFAULT) && populates(advice) => {
            Applied::unknown(range)
        }
        Some(ret) if refused_at_once(ret) => Applied::nothing(),
        // Where no whole huge page lies in the range, nothing is looked at (mm/khugepaged.c:madvise_collapse).
        Some(_) if advice == Advice::COLLAPSE && huge_pages(&range).is_empty() => {
            Applied::nothing()
        }
        // Where it stopped, or what it left out, only the mappings could tell.
        Some(_) if space.mappings_lost => Applied::unknown(range),
        // Everything that is mapped was done, and then the holes reported.
        Some(ret) if ret == -i64::from(libc::ENOMEM) => {
            let mut mapped = space.mapped(range.clone());
            if populates(advice) {
                // But for these, which stop at the first hole (mm/madvise.c:madvise_populate).
                mapped.retain(|first| first.start == range.start);
            }
            if mapped.len() == 1 && mapped[0] == range {
                // No hole that we know of: it ran out of memory somewhere on the way.
                return Applied::unknown(range);
            }
            Applied::partly(mapped)
        }
        Some(ret) if [libc::EINVAL, libc::EACCES].contains(&(-ret as i32)) => {
            match first_refused(space, advice, &range, ret) {
                Some(bad) => Applied::partly(space.mapped(range.start..bad)),
                // It may be locked, or pages of a device: no mapping that we know tells where it stopped.
                None if range.end - range.start > PAGE => Applied::unknown(range),
                None => Applied::nothing(),
            }
        }
        // Any other error can come from any mapping on the way; so can a thread's death.
        _ => Applied::unknown(range),
    }
}

/// Where one range of a `process_madvise` took effect. The call returns the bytes of the ranges
/// that it did whole, and stops at the first that fails (mm/madvise.c:vector_madvise).
pub fn process_madvise(
    space: &Space,
    advice: Advice,
    range: (u64, u64),
    before_bytes: u64,
    ret: Option<i64>,
) -> Applied {
    let (addr, len) = range;
    // All ranges together are cut to what a read or write may be (lib/iov_iter.c:__import_iovec).
    let len = len.min(MAX_RW_COUNT.saturating_sub(before_bytes));
    let Some(pages) = page_range(addr, len) else {
        return Applied::nothing();
    };
    match ret {
        // The first range failed like a madvise; the others were not tried.
        Some(..0) if before_bytes == 0 => madvise(space, advice, addr, len, ret),
        Some(..0) => Applied::nothing(),
        Some(done) => {
            let done = u64::try_from(done).unwrap_or(0);
            if done >= before_bytes.saturating_add(len) {
                Applied::whole(without_broken_page(space, advice, pages))
            } else if done >= before_bytes {
                // This is the one that failed, with an error that is not told. The call did not.
                Applied::unknown(pages)
            } else {
                Applied::nothing()
            }
        }
        None => Applied::unknown(pages),
    }
}

/// `range` without the huge page that it names only a part of: DONTNEED leaves that alone
/// (mm/madvise.c:madvise_dontneed_free_valid_vma, Linux 5.18 and newer; older ones refuse it all).
fn without_broken_page(space: &Space, advice: Advice, range: Range<u64>) -> Range<u64> {
    let last = space.vma_at(range.end.saturating_sub(PAGE));
    match (advice, last.and_then(|vma| vma.mapping.flags.hugetlb)) {
        (Advice::DONTNEED | Advice::DONTNEED_LOCKED, Some(bytes)) => {
            let end = range.end - range.end % bytes;
            range.start..end.max(range.start)
        }
        _ => range,
    }
}

fn populates(advice: Advice) -> bool {
    matches!(advice, Advice::POPULATE_READ | Advice::POPULATE_WRITE)
}

/// Errors that come before the first page is touched.
fn refused_at_once(ret: i64) -> bool {
    [
        libc::EBADF,
        libc::EFAULT,
        libc::ENOSYS,
        libc::ESRCH,
        libc::ENODEV,
    ]
    .iter()
    .any(|errno| ret == -i64::from(*errno))
}

/// The first mapping in `range` that refuses the advice by its kind, with that error.
fn first_refused(space: &Space, advice: Advice, range: &Range<u64>, ret: i64) -> Option<u64> {
    let denied = ret == -i64::from(libc::EACCES);
    space
        .vmas(range.clone())
        .find(|(run, vma)| {
            let special = vma.mapping.kind == MappingKind::Special;
            let hugetlb = vma.mapping.flags.hugetlb;
            match advice {
                // It punches a hole into the file of a shared mapping (mm/madvise.c:madvise_remove).
                Advice::REMOVE if denied => vma.is_file() && !vma.mapping.shared,
                Advice::REMOVE => !vma.is_file(),
                _ if denied => false,
                Advice::FREE => !vma.is_private_anon() || hugetlb.is_some(),
                Advice::COLD | Advice::PAGEOUT => special || hugetlb.is_some(),
                Advice::DONTNEED | Advice::DONTNEED_LOCKED => {
                    special || !run.start.is_multiple_of(hugetlb.unwrap_or(PAGE))
                }
                // Of anonymous memory only (mm/madvise.c:madvise_vma_behavior).
                Advice::WIPEONFORK => !vma.is_private_anon(),
                _ => false,
            }
        })
        .map(|(run, _)| run.start)
}
