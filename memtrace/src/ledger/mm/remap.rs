//! The calls that make, move and end mappings: mmap, mremap, munmap and brk.

use std::ops::Range;
use std::sync::Arc;

use super::super::applied::page_range;
use super::super::event::{Call, Mapping, MappingKind, VmFlags, maps_shared};
use super::super::pages::{Page, Release, Source};
use super::super::space::PAGE;
use super::super::states::Found;
use super::super::vma::Vma;
use super::{InFlight, Lifted, Mm, add};

const MAP_TYPE: u32 = 0x0f;
const MAP_DROPPABLE: u32 = 0x08;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_GROWSDOWN: u32 = 0x100;
const MAP_LOCKED: u32 = 0x2000;
const MAP_POPULATE: u32 = 0x8000;
const MAP_HUGETLB: u32 = 0x40000;
const MAP_HUGE_SHIFT: u32 = 26;
const MREMAP_FIXED: u32 = 2;
const MREMAP_DONTUNMAP: u32 = 4;

impl Mm {
    pub(super) fn mmap_over(&mut self, call: &Call, addr: u64, len: u64, flags: u32) {
        let Some(range) = mapped_range(addr, len, flags) else {
            return;
        };
        match call.ret {
            Some(0..) => {
                let mapped = self.space.mapped_bytes(range.clone());
                if mapped > 0 {
                    let totals = &mut self.totals.unmap.map_fixed;
                    totals.calls += 1;
                    add(&mut totals.requested_bytes, mapped);
                    let found = self.end_mappings(call, vec![range]);
                    let released = self.released(call, found);
                    self.totals.unmap.map_fixed.count_released(released);
                }
            }
            // Refused before anything was unmapped.
            Some(ret) if [libc::EBADF, libc::EACCES, libc::EPERM].contains(&(-ret as i32)) => {}
            // It may have unmapped before it ran out of memory, or before the file's own mmap
            // failed (mm/mmap.c:mmap_region).
            _ => {
                if self.lose(range).most() > 0 {
                    let released = self.counted(call);
                    self.totals.unmap.map_fixed.count_released(released);
                }
            }
        }
    }

    pub(super) fn mmap_add(
        &mut self,
        call: &Call,
        len: u64,
        prot: u32,
        flags: u32,
        mapping: Mapping,
    ) {
        let totals = &mut self.totals.map.mmap;
        totals.calls += 1;
        let addr = match call.ret {
            Some(ret) if !is_errno(ret) => ret as u64,
            Some(_) => {
                totals.failed += 1;
                return;
            }
            None => return,
        };
        let Some(range) = mapped_range(addr, len, flags) else {
            return;
        };
        add(&mut totals.bytes, range.end - range.start);
        let populates = flags & (MAP_POPULATE | MAP_LOCKED) != 0;
        // What is populated is written where it may be (mm/gup.c:populate_vma_page_range); a file that may
        // only be read has its own pages mapped.
        let writes = prot & libc::PROT_WRITE as u32 != 0 || mapping.kind != MappingKind::File;
        let vma = Vma {
            written: populates && writes,
            ..Vma::untouched(mapping)
        };
        self.lazy.droppable |= flags & MAP_TYPE == MAP_DROPPABLE;
        self.map_anew(range.clone(), vma);
        self.settle(call.tid, &range);
        if populates {
            // As much as it can get, without saying how much (mm/gup.c:__mm_populate).
            self.space.set_mapped(range, Page::Maybe);
        }
    }

    pub(super) fn mremap_away(
        &mut self,
        call: &Call,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new_addr: u64,
    ) {
        let (Some(old), Some(new)) = (page_range(addr, old_len), page_range(addr, new_len)) else {
            return;
        };
        let Some(ret) = call.ret.filter(|ret| !is_errno(*ret)) else {
            self.mremap_failed(call, &old, &new, flags, new_addr);
            return;
        };
        let mut gone = Vec::new();
        let mut kept = old.clone();
        if new.end < old.end && flags & MREMAP_DONTUNMAP == 0 {
            gone.push(new.end..old.end);
            kept.end = new.end;
        }
        if flags & MREMAP_FIXED != 0
            && let Some(target) = page_range(new_addr, new_len)
        {
            let moved = self.space.mapped(old.clone());
            if self.rules.mremap_moves_several && old_len == new_len && !moved.is_empty() {
                // Under a hole of what is moved the target stays.
                for run in moved {
                    let at = target.start + (run.start - old.start);
                    gone.extend(self.space.mapped(at..at + (run.end - run.start)));
                }
            } else {
                gone.extend(self.space.mapped(target));
            }
        }
        let bytes: u64 = gone.iter().map(|range| range.end - range.start).sum();
        let mut found = Found::default();
        for range in &gone {
            found += self.space.unmap(range.clone());
        }
        self.lazy.drop(found);
        if bytes > 0 {
            let released = self.released(call, found);
            let totals = &mut self.totals.unmap.mremap;
            totals.calls += 1;
            add(&mut totals.requested_bytes, bytes);
            totals.count_released(released);
        }
        let mut lifted = None;
        // An old length of 0 duplicates a shared mapping and moves nothing.
        if ret as u64 != addr && !kept.is_empty() {
            let carried = self.space.lift(kept.clone());
            if flags & MREMAP_DONTUNMAP != 0 {
                // The old range stays mapped, without its pages.
                for (range, vma) in &carried.vmas {
                    self.space.map(range.clone(), vma.clone());
                }
                let release = Release {
                    source: Source::DontUnmap,
                    at_ns: Some(call.enter_ns),
                    inherited: false,
                };
                for (range, page) in &carried.pages {
                    self.space
                        .set_range(range.clone(), release.applied_to(*page));
                }
            }
            gone.push(kept);
            lifted = Some(carried);
        }
        if !gone.is_empty() {
            self.fly(call, gone, None, lifted);
        }
    }

    /// What a failed mremap may have done before it failed (mm/mremap.c).
    fn mremap_failed(
        &mut self,
        call: &Call,
        old: &Range<u64>,
        new: &Range<u64>,
        flags: u32,
        new_addr: u64,
    ) {
        if flags & MREMAP_FIXED == 0 {
            return;
        }
        let refused = |errno: i32| call.ret == Some(-i64::from(errno));
        // No kernel takes a hole at the start, and all but the oldest look there first.
        let nothing_to_move = self.all_known() && self.space.vma_at(old.start).is_none();
        if refused(libc::EFAULT) && nothing_to_move && self.rules.mremap_looks_first {
            return;
        }
        // Looked at before anything is unmapped.
        const KNOWN: u32 = 7;
        let target = page_range(new_addr, new.end - new.start);
        let wrong = flags & 1 == 0
            || flags & !KNOWN != 0
            || new.is_empty()
            || !new_addr.is_multiple_of(PAGE)
            || (flags & MREMAP_DONTUNMAP != 0 && old.end - old.start != new.end - new.start)
            || target.is_none_or(|target| target.start < old.end && old.start < target.end);
        if refused(libc::EINVAL) && wrong {
            return;
        }
        let same_length = old.end - old.start == new.end - new.start;
        let mut ranges: Vec<Range<u64>> = page_range(new_addr, new.end - new.start)
            .into_iter()
            .collect();
        if self.rules.mremap_moves_several {
            if !same_length && (refused(libc::EFAULT) || refused(libc::EINVAL)) {
                return;
            }
            // The first of several mappings may have been moved.
            if same_length {
                ranges.push(old.clone());
                self.doubt_mappings();
            }
        }
        if new.end < old.end {
            ranges.push(new.end..old.end);
        }
        let mut lost = Found::default();
        for range in ranges {
            lost += self.lose(range);
        }
        self.mappings_unsure = true;
        if lost.most() > 0 {
            let released = self.counted(call);
            self.totals.unmap.mremap.count_released(released);
        }
    }

    pub(super) fn mremap_add(
        &mut self,
        call: &Call,
        addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        lifted: Option<Lifted>,
    ) {
        let totals = &mut self.totals.map.mremap;
        totals.calls += 1;
        let (Some(ret), Some(old)) = (call.ret, page_range(addr, old_len)) else {
            return;
        };
        if is_errno(ret) {
            totals.failed += 1;
            return;
        }
        let to = ret as u64;
        let Some(new) = page_range(to, new_len) else {
            return;
        };
        let old_bytes = old.end - old.start;
        let new_bytes = new.end - new.start;
        let added = if flags & MREMAP_DONTUNMAP != 0 {
            new_bytes
        } else {
            new_bytes.saturating_sub(old_bytes)
        };
        add(&mut totals.bytes, added);
        // The new part is like the old mapping's end; a duplicate of a shared one, like its start.
        let like = match &lifted {
            Some(lifted) => lifted.vmas.last().map(|(_, vma)| vma.clone()),
            None => self
                .space
                .vma_at(old.end.saturating_sub(1).max(old.start))
                .cloned(),
        };
        if let Some(lifted) = &lifted {
            let found = self.space.put_down(to, lifted);
            self.lazy.drop(found);
        }
        self.settle(call.tid, &new);
        if new_bytes > old_bytes
            && let Some(vma) = like
        {
            let grown = Vma {
                traced: true,
                ..vma
            };
            self.map_anew(new.start + old_bytes..new.end, grown);
        }
    }

    pub(super) fn brk_shrink(&mut self, call: &Call) {
        let (Some(old), Some(new)) = (self.space.brk, call.ret.map(|ret| ret as u64)) else {
            return;
        };
        let (Some(old), Some(new_page)) = (page_up(old), page_up(new)) else {
            return;
        };
        if new_page < old {
            let totals = &mut self.totals.unmap.brk;
            totals.calls += 1;
            add(&mut totals.requested_bytes, old - new_page);
            let found = self.end_mappings(call, std::iter::once(new_page..old).collect());
            let released = self.released(call, found);
            self.totals.unmap.brk.count_released(released);
        }
    }

    pub(super) fn brk_grow(&mut self, call: &Call, asked: u64) {
        let Some(new) = call.ret.map(|ret| ret as u64) else {
            return;
        };
        let before = self.space.brk.replace(new);
        let totals = &mut self.totals.map.brk;
        match before {
            // A shrink is counted where it took effect, at enter.
            Some(before) if new < before => {}
            Some(before) => {
                totals.calls += 1;
                // It returns the break as it is; below the heap's start it is a question.
                totals.failed += u64::from(asked > before && new < asked);
                if let (Some(from), Some(to)) = (page_up(before), page_up(new))
                    && from < to
                {
                    add(&mut totals.bytes, to - from);
                    let heap = Mapping {
                        kind: MappingKind::Heap,
                        shared: false,
                        flags: VmFlags::default(),
                        name: None,
                    };
                    self.map_anew(from..to, Vma::untouched(heap));
                }
            }
            None => totals.calls += 1,
        }
    }

    /// Ends what is mapped in the ranges, and says what went with it.
    pub(super) fn end_mappings(&mut self, call: &Call, ranges: Vec<Range<u64>>) -> Found {
        let mut found = Found::default();
        for range in &ranges {
            found += self.space.unmap(range.clone());
        }
        self.lazy.drop(found);
        self.fly(call, ranges, None, None);
        found
    }

    /// An address was handed out anew, so that whoever unmaps it in another thread has done so.
    pub(super) fn settle(&mut self, tid: u32, range: &Range<u64>) {
        let unmapping = |call: &&mut InFlight| call.tid != tid && call.source.is_none();
        for call in self.in_flight.iter_mut().filter(unmapping) {
            call.ranges = call
                .ranges
                .iter()
                .flat_map(|gone| {
                    let before = gone.start..gone.end.min(range.start);
                    let behind = gone.start.max(range.end)..gone.end;
                    [before, behind]
                })
                .filter(|left| !left.is_empty())
                .collect();
        }
    }
}

/// mmap and mremap return an address, or one of the last 4095 numbers (include/linux/err.h).
fn is_errno(ret: i64) -> bool {
    (-4095..0).contains(&ret)
}

/// The size of the pages that MAP_HUGETLB asks for, in the bits above MAP_HUGE_SHIFT. Without them it
/// is the machine's default, which is 2 MiB unless the kernel's command line says otherwise.
fn huge_bytes(flags: u32) -> Option<u64> {
    let bits = match flags >> MAP_HUGE_SHIFT {
        0 => 21,
        bits => bits,
    };
    (flags & MAP_HUGETLB != 0).then_some(1 << bits)
}

/// What mmap maps: whole pages, of whichever size they are (mm/mmap.c:ksys_mmap_pgoff).
fn mapped_range(addr: u64, len: u64, flags: u32) -> Option<Range<u64>> {
    page_range(
        addr,
        len.checked_next_multiple_of(huge_bytes(flags).unwrap_or(PAGE))?,
    )
}

fn page_up(addr: u64) -> Option<u64> {
    addr.checked_next_multiple_of(PAGE)
}

pub(super) fn new_mapping(flags: u32, fd: i32, name: Option<Arc<str>>) -> Mapping {
    let anonymous = flags & MAP_ANONYMOUS != 0 || fd < 0;
    Mapping {
        kind: if !anonymous {
            MappingKind::File
        } else if flags & MAP_GROWSDOWN != 0 {
            MappingKind::Stack
        } else {
            MappingKind::Anon
        },
        shared: maps_shared(flags),
        flags: VmFlags {
            hugetlb: huge_bytes(flags),
            // It survives no fork (mm/mmap.c:do_mmap).
            wipe_on_fork: flags & MAP_TYPE == MAP_DROPPABLE,
            droppable: flags & MAP_TYPE == MAP_DROPPABLE,
            ..VmFlags::default()
        },
        name,
    }
}
