//! Fork, vfork, exec and exit: whose ledger counts what.

use super::support::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{Access, Begin, Event, Exec, Exit, Fault, FaultBatch, Fork, Op};
use crate::ledger::totals::FaultClass as C;

fn fork(s: &mut Scene, shares_vm: bool) {
    let at_ns = s.tick();
    s.apply(Event::Fork(Fork {
        at_ns,
        parent_pid: PID,
        pid: CHILD,
        shares_vm,
        followed: true,
    }));
}

fn exec(s: &mut Scene, pid: u32, followed: bool) {
    let at_ns = s.tick();
    s.apply(Event::Exec(Exec {
        at_ns,
        pid,
        comm: "new".to_owned(),
        followed,
    }));
}

#[test]
fn after_a_fork_each_side_counts_its_own() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(Advice::DONTNEED, 0, 2);
    fork(&mut s, false);
    assert_eq!(s.child_write(2, true), C::Cow);
    assert_eq!(s.child_write(0, false), C::RefaultDontneed);
    let child = &s.ledger.mms()[1];
    assert_eq!((child.pid, child.totals.faults.total), (CHILD, 2));
    let inherited = &child.totals.advice[&Advice::DONTNEED];
    assert_eq!((inherited.calls, inherited.refaults), (0, 1));
    assert_eq!(inherited.refault_ratio(), None);
    // The child's touch brought nothing back for the parent.
    s.write(0, 1);
    assert_eq!((s.faults(C::RefaultDontneed), s.faults(C::Cow)), (1, 0));
}

#[test]
fn inherited_refaults_have_no_part_in_the_childs_own_ratio() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(Advice::DONTNEED, 0, 2);
    fork(&mut s, false);
    s.child_write(0, false);
    s.child_write(1, false);
    let at_ns = s.tick();
    let call = std::sync::Arc::new(crate::ledger::event::Call {
        pid: CHILD,
        tid: CHILD,
        enter_ns: at_ns,
        exit_ns: at_ns,
        ret: Some(0),
        op: madvise(Advice::DONTNEED, 2, 2),
        released_bytes: None,
    });
    s.enter(&call);
    s.leave(&call);
    s.child_write(2, false);
    let totals = &s.ledger.mms()[1].totals.advice[&Advice::DONTNEED];
    assert_eq!(
        (totals.refaults, totals.refault_ratio()),
        (3, Some((0.5, "requested")))
    );
}

/// A read of new memory beside memory that was written, and a fork: is the zero page copied?
fn zero_page_beside_written(forks: usize) -> C {
    let mut s = Scene::known();
    s.map(0, 4);
    s.write(0, 4);
    let mut parent = PID;
    for _ in 1..forks {
        let at_ns = s.tick();
        let child = parent + 1;
        s.apply(Event::Fork(Fork {
            at_ns,
            parent_pid: parent,
            pid: child,
            shares_vm: false,
            followed: true,
        }));
        parent = child;
    }
    let map = Op::Mmap {
        addr: page(4),
        len: 4 * PAGE,
        prot: 3,
        flags: 0x22,
        fd: -1,
        name: None,
    };
    let call = s.call_of(parent, map, page(4) as i64);
    s.enter(&call);
    s.leave(&call);
    let fault = |s: &mut Scene, pid, access, present| {
        let at_ns = s.tick();
        let fault = Fault {
            at_ns,
            pid,
            tid: pid,
            addr: page(5),
            present,
            access,
            by_kernel: false,
        };
        s.apply(Event::Faults(FaultBatch::of(&fault)))
            .unwrap()
            .class
    };
    fault(&mut s, parent, Access::Read, false);
    let at_ns = s.tick();
    s.apply(Event::Fork(Fork {
        at_ns,
        parent_pid: parent,
        pid: CHILD + 9,
        shares_vm: false,
        followed: true,
    }));
    fault(&mut s, CHILD + 9, Access::Write, false)
}

#[test]
fn new_memory_is_joined_with_what_was_written_here_and_not_with_what_a_fork_copied() {
    // The mapping was joined with one that has pages, which are copied: the zero page is there.
    assert_eq!(zero_page_beside_written(1), C::Unknown);
    assert_eq!(zero_page_beside_written(2), C::FirstTouch);
}

#[test]
fn advice_that_divides_a_mapping_divides_what_a_fork_copies() {
    for (advice, class) in [
        (Advice::DONTDUMP, C::FirstTouch),
        (Advice::RANDOM, C::FirstTouch),
        (Advice::MERGEABLE, C::FirstTouch),
        // It divides nothing.
        (Advice::COLD, C::Unknown),
    ] {
        let mut s = Scene::known();
        s.map(0, 8);
        s.advise(advice, 4, 2);
        s.write(4, 1);
        s.touch(1, Access::Read, false);
        fork(&mut s, false);
        assert_eq!(s.child_write(1, false), class, "{advice}");
    }
}

#[test]
fn fork_advice_is_kept() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    s.advise(Advice::DONTNEED, 0, 4);
    s.advise(Advice::WIPEONFORK, 0, 1);
    s.advise(Advice::DONTFORK, 1, 1);
    fork(&mut s, false);
    assert_eq!(s.child_write(0, false), C::FirstTouch);
    assert!(s.ledger.mms()[1].mapping_at(page(1)).is_none());
    assert_eq!(s.child_write(2, false), C::RefaultDontneed);
}

#[test]
fn a_vfork_child_works_on_its_parents_ledger_until_it_execs() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    fork(&mut s, true);
    assert_eq!(s.child_write(3, true), C::Cow);
    assert_eq!((s.ledger.mms().len(), s.faults(C::Cow)), (1, 1));
    exec(&mut s, CHILD, false);
    assert!(s.ledger.mm_of(CHILD).is_none());
    assert_eq!(s.ledger.mms()[0].end_ns, None);
}

#[test]
fn an_address_space_ends_with_its_last_owner() {
    let mut s = Scene::new();
    fork(&mut s, true);
    let exit = |pid, at_ns| {
        Event::Exit(Exit {
            at_ns,
            pid,
            status: Some(0),
        })
    };
    s.apply(exit(PID, 50));
    assert_eq!(s.ledger.mms()[0].end_ns, None);
    assert!(s.ledger.any_alive_but(|_| false));
    s.apply(exit(CHILD, 60));
    assert_eq!(s.ledger.mms()[0].end_ns, Some(60));
    assert!(!s.ledger.any_alive_but(|_| false));
}

#[test]
fn exec_begins_a_new_image_in_which_everything_is_new() {
    let mut s = Scene::new();
    s.map(0, 1);
    s.write(0, 1);
    s.advise(Advice::DONTNEED, 0, 1);
    exec(&mut s, PID, true);
    s.base_pages_only(PID);
    s.map(0, 1);
    assert_eq!(s.touch(0, Access::Write, false).class, C::FirstTouch);
    let images: Vec<_> = s
        .ledger
        .mms()
        .iter()
        .map(|mm| (mm.image, mm.totals.faults.total))
        .collect();
    assert_eq!(images, [(0, 1), (1, 1)]);
    assert!(s.ledger.mms()[0].end_ns.is_some());
}

#[test]
fn what_a_launched_process_does_before_its_first_exec_is_not_counted() {
    let mut s = Scene::new();
    s.apply(Event::Begin(Begin {
        at_ns: 1,
        pid: CHILD,
        comm: "memtrace".to_owned(),
        before_exec: true,
    }));
    let before = s.apply(Event::Faults(FaultBatch::of(&Fault {
        at_ns: 2,
        pid: CHILD,
        tid: CHILD,
        addr: page(0),
        present: false,
        access: Access::Read,
        by_kernel: false,
    })));
    assert_eq!(before, None);
    exec(&mut s, CHILD, true);
    let mm = s.ledger.mm_of(CHILD).expect("it began with its exec");
    assert_eq!((mm.image, mm.totals.faults.total), (0, 0));
    assert_eq!(s.ledger.strays(), 0);
}

#[test]
fn events_of_nobody_are_counted_as_strays() {
    let mut s = Scene::new();
    let exec = Exec {
        at_ns: 1,
        pid: 999,
        comm: String::new(),
        followed: true,
    };
    s.apply(Event::Exec(exec));
    assert_eq!(s.ledger.strays(), 1);
}

#[test]
fn the_exit_status_is_that_of_the_owner_whoever_shares_its_memory() {
    let mut s = Scene::new();
    fork(&mut s, true);
    let exit = |pid, at_ns, status| {
        Event::Exit(Exit {
            at_ns,
            pid,
            status: Some(status),
        })
    };
    s.apply(exit(PID, 50, 3 << 8));
    s.apply(exit(CHILD, 60, 9));
    let mm = &s.ledger.mms()[0];
    assert_eq!((mm.end_ns, mm.exit), (Some(60), Some(3 << 8)));
}

#[test]
fn a_call_after_its_process_has_ended_is_a_stray_and_counts_once() {
    let mut s = Scene::new();
    s.map(0, 4);
    s.write(0, 4);
    let at_ns = s.tick();
    s.apply(Event::Exit(Exit {
        at_ns,
        pid: PID,
        status: None,
    }));
    s.advise(Advice::DONTNEED, 0, 4);
    assert_eq!(s.ledger.strays(), 1);
    assert!(s.ledger.mms()[0].totals.advice.is_empty());
}
