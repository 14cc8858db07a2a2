//! Tests of what counts as having come back, against the ledger itself.

use super::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{
    Access, Begin, Call, Exec, Fault, FaultBatch, FolioSizes, Folios, Mapping, MappingKind,
    Mappings, Op, VmFlags,
};
use std::sync::Arc;

const PID: u32 = 7;
const BASE: u64 = 0x7000_0000_0000;

/// A process with one anonymous mapping from before, of which the pages 0..1024 are watched.
struct Scene {
    ledger: Ledger,
    returns: Returns,
    now: u64,
}

impl Scene {
    fn new(folio_bytes: u64) -> Self {
        let mut scene = Self {
            ledger: Ledger::default(),
            returns: Returns::new(
                10,
                [(
                    PID,
                    Returned::new(vec![page(0)..page(100), page(200)..page(1024)]),
                )],
            ),
            now: 0,
        };
        let comm = "test".to_owned();
        scene.apply(Event::Begin(Begin {
            at_ns: 0,
            pid: PID,
            comm,
            before_exec: false,
        }));
        scene.apply(Event::Folios(Folios {
            at_ns: 1,
            pid: PID,
            any: FolioSizes::one(folio_bytes),
            advised: FolioSizes::one(folio_bytes),
            ..Folios::base_pages(0, 1)
        }));
        let mapping = Mapping {
            kind: MappingKind::Anon,
            shared: false,
            flags: VmFlags::default(),
            name: None,
        };
        scene.apply(Event::Mappings(Mappings {
            at_ns: 2,
            until_ns: 2,
            pid: PID,
            fresh: false,
            heap_end: None,
            whole: false,
            list: vec![(page(0)..page(4096), mapping)],
        }));
        scene.now = 10;
        scene
    }

    fn apply(&mut self, event: Event) {
        self.returns.apply(&mut self.ledger, &event);
    }

    fn touch(&mut self, pages: Range<u64>, access: Access, present: bool) {
        self.now += 1;
        let faults: Vec<_> = pages
            .map(|n| Fault {
                at_ns: self.now,
                pid: PID,
                tid: PID,
                addr: page(n),
                access,
                present,
                by_kernel: false,
            })
            .collect();
        let batch = FaultBatch::of_all(&faults).expect("they are of one thread");
        self.apply(Event::Faults(batch));
    }

    fn write(&mut self, pages: Range<u64>) {
        self.touch(pages, Access::Write, false);
    }

    fn call(&mut self, op: Op, ret: i64) {
        self.now += 2;
        let call = Arc::new(Call {
            pid: PID,
            tid: PID,
            enter_ns: self.now - 1,
            exit_ns: self.now,
            ret: Some(ret),
            op,
            released_bytes: None,
        });
        self.apply(Event::Enter(Arc::clone(&call)));
        self.apply(Event::Leave(call));
    }

    fn advise(&mut self, advice: Advice, pages: Range<u64>) {
        let (addr, len) = (page(pages.start), (pages.end - pages.start) * PAGE);
        self.call(Op::Madvise { advice, addr, len }, 0);
    }

    /// Faults and pages so far.
    fn counted(&self) -> (u64, u64) {
        let one = self.returns.of(PID).unwrap();
        (one.faults, one.bytes() / PAGE)
    }
}

fn page(n: u64) -> u64 {
    BASE + n * PAGE
}

#[test]
fn faults_in_the_ranges_count_and_others_do_not() {
    let mut scene = Scene::new(PAGE);
    scene.write(90..110);
    scene.write(190..230);
    scene.write(1020..1100);
    assert_eq!(scene.counted(), (10 + 30 + 4, 44));
}

#[test]
fn what_happened_before_does_not_count() {
    let mut scene = Scene::new(PAGE);
    scene.now = 3;
    scene.write(0..5);
    assert_eq!(scene.counted(), (0, 0));
}

#[test]
fn a_page_that_comes_twice_is_one_page() {
    let mut scene = Scene::new(PAGE);
    scene.write(0..8);
    scene.advise(Advice::FREE, 0..8);
    // Taken by the kernel, and written once more.
    scene.write(0..4);
    assert_eq!(scene.counted(), (12, 8));
}

#[test]
fn what_the_program_dropped_itself_is_not_what_was_taken() {
    let mut scene = Scene::new(PAGE);
    scene.advise(Advice::DONTNEED, 0..16);
    scene.write(0..16);
    assert_eq!(scene.counted(), (0, 0));
}

#[test]
fn a_new_mapping_in_the_old_place_is_new_memory() {
    let mut scene = Scene::new(PAGE);
    let (addr, len) = (page(0), 16 * PAGE);
    scene.call(Op::Munmap { addr, len }, 0);
    scene.write(16..20);
    assert_eq!(scene.counted(), (4, 4));
}

#[test]
fn a_copy_and_a_write_after_a_read_add_no_page() {
    let mut scene = Scene::new(PAGE);
    scene.touch(0..4, Access::Write, true);
    assert_eq!(scene.counted(), (0, 0));
    scene.touch(8..12, Access::Read, false);
    scene.touch(8..12, Access::Write, true);
    // The write is a fault too, and costs as much.
    assert_eq!(scene.counted(), (8, 4));
}

#[test]
fn where_huge_pages_are_possible_a_fault_may_bring_all_of_one_within_the_range() {
    let mut scene = Scene::new(2 << 20);
    scene.write(5..6);
    assert_eq!(scene.counted(), (1, 100));
    scene.write(600..601);
    assert_eq!(scene.counted(), (2, 100 + 512));
}

#[test]
fn another_program_has_nothing_of_it() {
    let mut scene = Scene::new(PAGE);
    scene.write(0..3);
    scene.apply(Event::Exec(Exec {
        at_ns: 20,
        pid: PID,
        comm: "other".to_owned(),
        followed: true,
    }));
    scene.now = 30;
    scene.write(3..9);
    assert_eq!(scene.counted(), (3, 3));
    assert!(scene.returns.of(PID).unwrap().ended);
}
