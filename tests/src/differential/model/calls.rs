//! Calls: what each took, added, moved and marked.

use super::super::places::{ARENA_PAGES, HEAP_PAGES, PAGE, PAGES};
use super::super::protocol::Head;
use super::super::snapshot::{Kind, Snapshot};
use super::super::step::{
    MADV_COLLAPSE, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, Step, advice_name,
};
use super::page::{Class, Expected, GivenBack, Lazy, Page, Touched};
use super::process::Process;
use super::truth::Unmap;

impl Process {
    pub(super) fn call(&mut self, step: &Step, head: &Head, before: &Snapshot) {
        match step {
            Step::Mmap { pages, flags, .. } => self.mmap(before, *pages, *flags, head.ret),
            Step::Munmap { page, pages } => {
                let failed = head.ret < 0;
                let given = self.truth.unmap(Unmap::Munmap);
                given.calls += 1;
                given.failed += u64::from(failed);
                given.requested += if failed { 0 } else { *pages };
                self.unmapped(before, Unmap::Munmap, *page..page + pages);
            }
            Step::Brk { bytes } => {
                if head.ret as u64 == self.places.heap + bytes {
                    self.brk = *bytes;
                }
                let heap = ARENA_PAGES..ARENA_PAGES + HEAP_PAGES;
                self.unmapped(before, Unmap::Brk, heap);
                self.came_without_fault(before);
            }
            Step::Mremap {
                page,
                old,
                new,
                flags,
                ..
            } => self.mremap(before, [*page, *old, *new], *flags, head.ret),
            Step::Madvise {
                page,
                pages,
                advice,
                skew,
                short,
            } => {
                let name = advice_name(*advice);
                self.count_call(&name, head.ret);
                let bytes = (pages * PAGE).saturating_sub(*short);
                let range = (*page, bytes.div_ceil(PAGE));
                let ret = if *skew == 0 { head.ret } else { -1 };
                self.advised(before, &name, *advice, &[(range, ret)]);
            }
            Step::ProcessMadvise { ranges, advice, .. } => {
                let name = advice_name(*advice);
                self.count_call(&name, head.ret);
                let outcomes = range_outcomes(ranges, head.ret);
                self.advised(before, &name, *advice, &outcomes);
            }
            Step::Mlock { .. } => self.came_unseen(before),
            Step::Garbage { number, args } => self.garbage(*number, args, head.ret),
            _ => {}
        }
    }

    /// A call that nothing came of but its being counted.
    fn garbage(&mut self, number: i64, args: &[u64; 6], ret: i64) {
        match number {
            libc::SYS_madvise => self.count_call(&advice_name(args[2] as i32), ret),
            libc::SYS_process_madvise => self.count_call(&advice_name(args[3] as i32), ret),
            libc::SYS_munmap => {
                let given = self.truth.unmap(Unmap::Munmap);
                given.calls += 1;
                given.failed += u64::from(ret < 0);
            }
            libc::SYS_mremap => self.truth.unmap(Unmap::Mremap).failed += u64::from(ret < 0),
            libc::SYS_mmap => {
                self.truth.mmap[0] += 1;
                self.truth.mmap[1] += u64::from(ret < 0);
            }
            _ => {}
        }
    }

    fn count_call(&mut self, name: &str, ret: i64) {
        let given = self.truth.advice(name);
        given.calls += 1;
        given.failed += u64::from(ret < 0);
    }

    fn mmap(&mut self, before: &Snapshot, pages: u64, flags: i32, ret: i64) {
        self.truth.mmap[0] += 1;
        if ret < 0 {
            self.truth.mmap[1] += 1;
            return;
        }
        self.truth.mmap[2] += pages * PAGE;
        let Some(first) = self.places.page(ret as u64) else {
            return;
        };
        let range = first..(first + pages).min(PAGES);
        let over = range.clone();
        let over = over.filter(|&page| before.pages[page as usize].mapped.is_some());
        let over = over.count() as u64;
        if flags & libc::MAP_FIXED != 0 && over > 0 {
            let given = self.truth.unmap(Unmap::MapFixed);
            given.calls += 1;
            given.requested += over;
        }
        for page in range {
            self.went(before, Unmap::MapFixed, page);
            self.pages[page as usize] = Page::default();
            if self.now.pages[page as usize].present {
                self.populated(page);
            }
            self.truth.unfaulted += u64::from(self.now.pages[page as usize].counts());
        }
    }

    /// A page that was mapped has ended.
    fn went(&mut self, before: &Snapshot, how: Unmap, page: u64) {
        let counts = before.pages[page as usize].counts();
        self.truth.unmap(how).released += u64::from(counts);
        self.drop_mark(page);
    }

    /// Pages of a range that were mapped and are not any more.
    fn unmapped(&mut self, before: &Snapshot, how: Unmap, range: std::ops::Range<u64>) {
        for page in range.start..range.end.min(PAGES) {
            let was = before.pages[page as usize].mapped.is_some();
            if was && self.now.pages[page as usize].mapped.is_none() {
                self.went(before, how, page);
            }
        }
    }

    fn mremap(&mut self, before: &Snapshot, range: [u64; 3], flags: i32, ret: i64) {
        let [page, old, new] = range;
        let given = self.truth.unmap(Unmap::Mremap);
        given.failed += u64::from(ret < 0);
        let to = match (ret < 0, self.places.page(ret as u64)) {
            (false, Some(to)) => to,
            _ => return self.mremap_failed(before),
        };
        let moved = old.min(new);
        if to == page {
            for tail in page + moved..page + old {
                self.went(before, Unmap::Mremap, tail);
                self.pages[tail as usize] = Page::default();
            }
            return self.came_without_fault(before);
        }
        // A move of several mappings goes one by one: what lies under a hole of the source stays.
        let is_hole =
            |index: u64| index < old && before.pages[(page + index) as usize].mapped.is_none();
        for index in (0..new).filter(|&index| !is_hole(index)) {
            self.went(before, Unmap::Mremap, to + index);
            self.pages[(to + index) as usize] = Page::default();
        }
        for tail in page + moved..page + old {
            self.went(before, Unmap::Mremap, tail);
        }
        for index in (0..moved).filter(|&index| !is_hole(index)) {
            let (from, into) = ((page + index) as usize, (to + index) as usize);
            self.pages[into] = std::mem::take(&mut self.pages[from]);
            if flags & libc::MREMAP_DONTUNMAP != 0 {
                self.pages[from] = left_behind(&self.pages[into]);
            }
            let is = self.now.pages[into];
            if is.present && !before.pages[from].present {
                self.truth.unfaulted += u64::from(is.counts());
                self.populated(into as u64);
            }
        }
        for target in to + moved..to + new {
            let is = self.now.pages[target as usize];
            if is.present {
                self.truth.unfaulted += u64::from(is.counts());
                self.populated(target);
            }
        }
    }

    /// A failed mremap may have unmapped its target, or a part of its source.
    fn mremap_failed(&mut self, before: &Snapshot) {
        self.unmapped(before, Unmap::Mremap, 0..PAGES);
        for page in 0..PAGES as usize {
            let (was, is) = (before.pages[page].mapped, self.now.pages[page].mapped);
            if was.is_none() && is.is_some() {
                self.truth.unmap(Unmap::Mremap).unsure = true;
                self.pages[page] = Page {
                    touched: Touched::Maybe,
                    old: true,
                    ..Page::default()
                };
            }
        }
    }

    /// Pages that are there now, and were brought by a call.
    fn came_without_fault(&mut self, before: &Snapshot) {
        for page in 0..PAGES {
            let (was, is) = (before.pages[page as usize], self.now.pages[page as usize]);
            self.truth.unfaulted += u64::from(is.counts() && !was.counts());
            if is.present && (!was.present || was.zero && !is.zero) {
                self.populated(page);
            }
        }
    }

    /// Pages that are there now, of which no event tells.
    fn came_unseen(&mut self, before: &Snapshot) {
        self.came_without_fault(before);
        for page in 0..PAGES {
            let (was, is) = (before.pages[page as usize], self.now.pages[page as usize]);
            if is.present && (!was.present || was.zero && !is.zero) {
                self.unseen(page);
            }
        }
    }

    /// An advice over ranges, each with what became of it.
    fn advised(
        &mut self,
        before: &Snapshot,
        name: &str,
        advice: i32,
        ranges: &[((u64, u64), i64)],
    ) {
        for &((page, pages), ret) in ranges {
            let (applied, sure) = applied(before, advice, page, pages, ret);
            let given = self.truth.advice(name);
            given.requested += match ret {
                0 => pages,
                _ => applied.len() as u64,
            };
            given.partial += u64::from(ret < 0 && !applied.is_empty());
            given.unsure |= !sure;
            let known = ret == 0 || ret == -i64::from(libc::ENOMEM) && has_known_refusals(advice);
            if !known && (self.flags_matter || !sure) {
                // Which mapping refused is not in the events where one may be locked.
                self.truth.advice(name).unsure = true;
                for page in page..(page + pages).min(PAGES) {
                    self.pages[page as usize].shaken = true;
                }
            }
            for page in applied {
                self.advise_page(before, name, advice, page);
            }
            if advice == libc::MADV_POPULATE_WRITE && ret != 0 {
                // It goes up to the first page that it can't have.
                let mapped = |page: &u64| before.pages[*page as usize].mapped.is_some();
                for page in (page..(page + pages).min(PAGES)).take_while(mapped) {
                    self.advise_page(before, name, advice, page);
                }
            }
        }
        let takes = class_of_advice(advice).is_some();
        for page in 0..PAGES {
            let (was, is) = (before.pages[page as usize], self.now.pages[page as usize]);
            if takes && was.counts() && !is.counts() {
                self.truth.advice(name).released += 1;
            }
            let beside = was.present && !is.present && self.pages[page as usize].given.is_none();
            if advice == libc::MADV_REMOVE && beside {
                // Another mapping of the file, or one folio with what was removed
                // (mm/truncate.c:truncate_inode_partial_folio).
                self.give_back(page, Class::RefaultOther, name, true);
            }
        }
        if !takes {
            self.came_without_fault(before);
        }
    }

    fn advise_page(&mut self, before: &Snapshot, name: &str, advice: i32, page: u64) {
        let (was, is) = (before.pages[page as usize], self.now.pages[page as usize]);
        let Some(mapped) = was.mapped else { return };
        match advice {
            MADV_GUARD_INSTALL => self.pages[page as usize].guarded = true,
            MADV_GUARD_REMOVE => self.pages[page as usize].guarded = false,
            _ => {}
        }
        let gone = was.present && !is.present;
        if let Some(class) = class_of_advice(advice) {
            // What is gone for certain can't be given back again. What was only offered may be there.
            let state = &self.pages[page as usize];
            let given = state.given.as_ref();
            let offered = given.is_some_and(|given| given.doubtful || !given.for_certain());
            let maybe = state.given.is_none() && state.touched != Touched::No;
            if gone || (!is.present && (offered || maybe)) {
                self.drop_mark(page);
                let state = &self.pages[page as usize];
                let doubtful = state.touched == Touched::Maybe && !state.old && !gone;
                self.give_back(page, class, name, doubtful);
            }
        } else if advice == libc::MADV_FREE && mapped.kind == Kind::Anonymous {
            let state = &self.pages[page as usize];
            // What is gone for certain comes back only with a neighbour.
            let may_be_back = self.folio > 1;
            let doubtful = state
                .given
                .as_ref()
                .is_some_and(|given| given.doubtful && (may_be_back || !given.for_certain()));
            if let Some(given) = &mut self.pages[page as usize].given
                && given.by == "MADV_PAGEOUT"
            {
                // Whether that took it, or this freed it, is not in the events.
                given.doubtful = true;
                given.or = given.or.or(Expected::fault(Class::RefaultFree));
            }
            let state = &self.pages[page as usize];
            if was.counts() {
                self.mark(page, name);
            } else if !was.present && (doubtful || state.touched == Touched::Maybe) {
                self.give_back(page, Class::RefaultFree, name, true);
            }
        } else if advice == libc::MADV_POPULATE_WRITE && is.present {
            // What was there is dirty now, as by a write (mm/gup.c:follow_page_pte).
            let state = &mut self.pages[page as usize];
            if state.lazy == Lazy::Clean {
                state.lazy = Lazy::Reused;
                state.given = None;
            }
        } else if advice == libc::MADV_PAGEOUT {
            let state = &self.pages[page as usize];
            let file = mapped.kind != Kind::Anonymous;
            let doubtful = state.given.as_ref().is_some_and(|given| given.doubtful);
            let maybe = doubtful || state.touched == Touched::Maybe && state.given.is_none();
            let (old, shaken) = (state.old && state.given.is_none(), state.shaken);
            self.truth.unseen += u64::from(gone && shaken);
            if gone && state.lazy == Lazy::Clean {
                self.pages[page as usize].lazy = Lazy::No;
                self.truth.reclaimed += 1;
                if old {
                    // Of the mark before the trace nobody knows.
                    self.give_back(page, Class::RefaultOther, name, true);
                }
            } else if gone || (maybe && !is.present) {
                self.drop_mark(page);
                self.give_back(page, Class::RefaultOther, name, file || maybe);
            }
        }
    }

    fn give_back(&mut self, page: u64, class: Class, by: &str, doubtful: bool) {
        let state = &mut self.pages[page as usize];
        let or = match &state.given {
            Some(before) if before.doubtful => before.or.or(Expected::fault(before.class)),
            _ => Expected::NONE,
        };
        let doubtful = doubtful || state.given.as_ref().is_some_and(|given| given.doubtful);
        state.zero = None;
        state.touched = Touched::No;
        state.given = Some(GivenBack {
            class,
            by: by.to_owned(),
            inherited: false,
            doubtful,
            or,
        });
    }

    /// MADV_FREE on a page that is there.
    fn mark(&mut self, page: u64, name: &str) {
        let shared = self.truth.shared;
        let state = &mut self.pages[page as usize];
        let newly = state.lazy != Lazy::Clean;
        let first = state.lazy == Lazy::No;
        state.lazy = if shared { Lazy::No } else { Lazy::Clean };
        state.given = Some(GivenBack {
            class: Class::RefaultFree,
            by: name.to_owned(),
            inherited: false,
            doubtful: shared,
            or: Expected::NONE,
        });
        if !shared {
            self.truth.advice(name).marked += u64::from(newly);
            self.truth.marked += u64::from(first);
        }
    }
}

/// What a move with MREMAP_DONTUNMAP leaves of a page.
fn left_behind(moved: &Page) -> Page {
    let by_move = || GivenBack {
        class: Class::RefaultOther,
        by: String::new(),
        inherited: false,
        doubtful: moved.touched == Touched::Maybe
            || moved.given.as_ref().is_some_and(|given| given.doubtful),
        or: Expected::NONE,
    };
    // What was gone before could not be moved.
    let before = moved.given.clone().filter(GivenBack::for_certain);
    let given = before.or_else(|| moved.was_populated().then(by_move));
    Page {
        old: moved.old,
        given,
        shaken: moved.shaken,
        ..Page::default()
    }
}

/// The class of faults on what an advice takes at once.
fn class_of_advice(advice: i32) -> Option<Class> {
    match advice {
        libc::MADV_DONTNEED | MADV_DONTNEED_LOCKED => Some(Class::RefaultDontneed),
        libc::MADV_REMOVE | MADV_GUARD_INSTALL => Some(Class::RefaultOther),
        _ => None,
    }
}

/// What became of each range of a process_madvise that returned so much: the first one that is not done whole
/// has failed, or was never come to.
fn range_outcomes(ranges: &[(u64, u64)], ret: i64) -> Vec<((u64, u64), i64)> {
    let mut left = ret.max(0) as u64;
    let mut outcomes = Vec::new();
    for &(page, pages) in ranges {
        let bytes = pages * PAGE;
        if bytes <= left {
            left -= bytes;
            outcomes.push(((page, pages), 0));
        } else {
            let errno = if ret < 0 { ret } else { -1 };
            outcomes.push(((page, pages), errno));
            break;
        }
    }
    outcomes
}

/// The pages that a call was applied to, and whether that is certain.
fn applied(before: &Snapshot, advice: i32, page: u64, pages: u64, ret: i64) -> (Vec<u64>, bool) {
    let range = page..(page + pages).min(PAGES);
    let mapped = |page: &u64| before.pages[*page as usize].mapped.is_some();
    if ret == 0 {
        return (range.filter(mapped).collect(), true);
    }
    if !has_known_refusals(advice) {
        return (Vec::new(), false);
    }
    if ret == -i64::from(libc::ENOMEM) {
        return (range.filter(mapped).collect(), true);
    }
    let refuses = |page: u64| {
        let mapped = before.pages[page as usize].mapped;
        mapped.is_some_and(|mapped| match advice {
            libc::MADV_DONTNEED | libc::MADV_PAGEOUT | libc::MADV_COLD | MADV_GUARD_INSTALL => {
                mapped.locked
            }
            libc::MADV_FREE => mapped.locked || mapped.kind != Kind::Anonymous,
            libc::MADV_REMOVE => mapped.locked || mapped.kind != Kind::Shared,
            _ => false,
        })
    };
    match range.clone().find(|&page| refuses(page)) {
        Some(first) => ((page..first).filter(mapped).collect(), true),
        // Refused before anything was looked at.
        None => (Vec::new(), ret == -i64::from(libc::EINVAL)),
    }
}

fn has_known_refusals(advice: i32) -> bool {
    let known = [
        libc::MADV_DONTNEED,
        libc::MADV_FREE,
        libc::MADV_REMOVE,
        libc::MADV_COLD,
        libc::MADV_PAGEOUT,
        MADV_DONTNEED_LOCKED,
        MADV_GUARD_INSTALL,
    ];
    known.contains(&advice) || !(0..=MADV_COLLAPSE).contains(&advice)
}
