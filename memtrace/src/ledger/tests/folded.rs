//! Address spaces summed up by name: no sum changes by it, and what is kept is bounded.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::support::*;
use crate::ledger::advice::Advice;
use crate::ledger::event::{
    Access, Begin, Call, Event, Exec, Executable, Exit, Fault, FaultBatch, Fork, Gap, Mappings, Op,
    Sample,
};
use crate::ledger::folded::Folded;
use crate::ledger::totals::Totals;
use crate::ledger::{Ledger, Mm};

fn begin(pid: u32) -> Event {
    Event::Begin(Begin {
        at_ns: 0,
        pid,
        comm: "first".to_owned(),
        before_exec: false,
    })
}

fn fork(at_ns: u64, parent_pid: u32, pid: u32, shares_vm: bool) -> Event {
    Event::Fork(Fork {
        at_ns,
        parent_pid,
        pid,
        shares_vm,
        followed: true,
    })
}

fn exec(at_ns: u64, pid: u32, comm: &str) -> Event {
    Event::Exec(Exec {
        at_ns,
        pid,
        comm: comm.to_owned(),
        followed: true,
    })
}

fn exit(at_ns: u64, pid: u32) -> Event {
    Event::Exit(Exit {
        at_ns,
        pid,
        status: Some(0),
    })
}

fn write(at_ns: u64, pid: u32, n: u64) -> Event {
    Event::Faults(FaultBatch::of(&Fault {
        at_ns,
        pid,
        tid: pid,
        addr: page(n),
        present: false,
        access: Access::Write,
        by_kernel: false,
    }))
}

fn mappings(at_ns: u64, pid: u32) -> Event {
    Event::Mappings(Mappings {
        at_ns,
        until_ns: at_ns,
        pid,
        fresh: true,
        heap_end: None,
        whole: false,
        list: vec![(page(0)..page(64), anon())],
    })
}

fn sample(at_ns: u64, pid: u32, rss_bytes: u64) -> Event {
    Event::Sample(Box::new(Sample {
        at_ns,
        pid,
        rss_bytes,
        virtual_bytes: None,
        rollup: None,
        cgroup: None,
    }))
}

fn call(at_ns: u64, pid: u32, op: Op) -> [Event; 2] {
    let call = Arc::new(Call {
        pid,
        tid: pid,
        enter_ns: at_ns,
        exit_ns: at_ns,
        ret: Some(0),
        op,
        released_bytes: None,
    });
    [Event::Enter(Arc::clone(&call)), Event::Leave(call)]
}

/// A ledger in which the command `first` runs so many others, one after the other; each
/// writes to as many pages as its number.
fn ran(kept: usize, names: impl IntoIterator<Item = String>) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.keep_ended(kept);
    ledger.apply(&begin(PID));
    let mut at_ns = 1;
    for (n, name) in (1..).zip(names) {
        let pid = PID + 1 + n % 7;
        ledger.apply(&fork(at_ns, PID, pid, true));
        ledger.apply(&exec(at_ns + 1, pid, &name));
        for n in 0..u64::from(n) {
            ledger.apply(&write(at_ns + 2, pid, n));
        }
        ledger.apply(&exit(at_ns + 3, pid));
        at_ns += 10;
    }
    ledger
}

fn faults(folded: &Folded) -> u64 {
    folded.totals.faults.total
}

#[test]
fn the_largest_are_kept_and_the_others_are_summed_up_by_name() {
    let names = ["cc", "ld", "cc", "as", "cc", "ld"].map(str::to_owned);
    let mut ledger = ran(2, names);
    ledger.finish(100);
    let kept: Vec<_> = ledger
        .mms()
        .iter()
        .map(|mm| (mm.comm.as_str(), mm.totals.faults.total))
        .collect();
    // The command itself is no part of the two.
    assert_eq!(kept, [("first", 0), ("cc", 5), ("ld", 6)]);
    let folded: Vec<_> = ledger
        .folded()
        .map(|(name, sum)| (name, sum.images, faults(sum), sum.start_ns, sum.end_ns))
        .collect();
    assert_eq!(
        folded,
        [
            (Some("as"), 1, 4, 32, 34),
            (Some("cc"), 2, 1 + 3, 2, 24),
            (Some("ld"), 1, 2, 12, 14),
        ]
    );
    // Seven of them used the same pids.
    assert_eq!(ledger.owners(), 7);
}

#[test]
fn what_grew_large_without_a_fault_is_kept_too() {
    let mut ledger = Ledger::default();
    ledger.keep_ended(1);
    ledger.apply(&begin(PID));
    for (pid, rss_bytes) in [(20, 9 * PAGE), (21, 3 * PAGE)] {
        ledger.apply(&fork(1, PID, pid, false));
        ledger.apply(&sample(2, pid, rss_bytes));
        ledger.apply(&exit(3, pid));
    }
    ledger.finish(9);
    let kept: Vec<u32> = ledger.mms().iter().map(|mm| mm.pid).collect();
    assert_eq!(kept, [PID, 20]);
    let (_, folded) = ledger.folded().next().expect("one is folded");
    assert_eq!(folded.peak_rss_bytes, Some(3 * PAGE));
}

#[test]
fn of_a_named_process_the_last_image_is_kept() {
    let mut ledger = Ledger::default();
    ledger.keep_ended(0);
    ledger.apply(&begin(PID));
    for n in 0..5 {
        ledger.apply(&exec(n, PID, &format!("image{n}")));
    }
    ledger.apply(&exit(9, PID));
    ledger.finish(9);
    let kept: Vec<_> = ledger.mms().iter().map(|mm| mm.comm.as_str()).collect();
    assert_eq!(kept, ["image4"]);
    assert_eq!(ledger.folded().map(|(_, sum)| sum.images).sum::<u64>(), 5);
    assert_eq!(ledger.owners(), 1);
}

#[test]
fn who_lives_is_kept_whatever_the_bound() {
    let mut ledger = ran(0, ["a", "b"].map(str::to_owned));
    ledger.apply(&fork(50, PID, 50, false));
    ledger.apply(&fork(51, PID, 51, false));
    ledger.apply(&exit(52, 50));
    ledger.apply(&write(53, 51, 1));
    ledger.finish(60);
    let kept: Vec<_> = ledger
        .mms()
        .iter()
        .map(|mm| (mm.pid, mm.totals.faults.total))
        .collect();
    assert_eq!(kept, [(PID, 0), (51, 1)]);
}

#[test]
fn names_without_end_share_one_sum() {
    let mut ledger = ran(0, (0..1000).map(|n| format!("name{n}")));
    ledger.finish(100_000);
    let named = ledger.folded().filter(|(name, _)| name.is_some()).count();
    assert_eq!(named, 256);
    let (_, others) = ledger
        .folded()
        .find(|(name, _)| name.is_none())
        .expect("others");
    assert_eq!(others.images, 1000 - 256);
    let all: u64 = ledger.folded().map(|(_, sum)| faults(sum)).sum();
    assert_eq!(all, 1000 * 1001 / 2);
}

#[test]
fn advice_that_is_none_shares_one_entry_of_a_sum_in_whatever_order_it_comes() {
    let sum = |of: &mut dyn Iterator<Item = i32>| {
        let mut sum = Totals::default();
        for number in of {
            let mut one = Totals::default();
            one.advice.entry(Advice(number)).or_default().calls = 1;
            sum.add(&one);
        }
        sum
    };
    let up = sum(&mut (1000..1100));
    assert_eq!(up.advice.len(), 65);
    assert_eq!(up.advice[&Advice::OTHERS].calls, 100 - 64);
    assert_eq!(up, sum(&mut (1000..1100).rev()));
}

#[test]
fn an_executable_is_told_where_all_of_a_name_have_the_same() {
    let mut ledger = Ledger::default();
    ledger.keep_ended(0);
    ledger.apply(&begin(PID));
    for (comm, path) in [
        ("cc", Some("/usr/bin/cc")),
        ("cc", None),
        ("sh", Some("/bin/dash")),
        ("sh", Some("/bin/bash")),
        ("ld", None),
    ] {
        ledger.apply(&fork(1, PID, 20, true));
        ledger.apply(&exec(2, 20, comm));
        if let Some(path) = path {
            ledger.apply(&Event::Executable(Executable {
                at_ns: 2,
                pid: 20,
                path: Arc::from(path),
            }));
        }
        ledger.apply(&exit(3, 20));
    }
    let told: Vec<_> = ledger
        .folded()
        .map(|(name, sum)| (name, sum.exe.path()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("cc"), Some("/usr/bin/cc")),
            (Some("ld"), None),
            (Some("sh"), None),
        ]
    );
}

#[test]
fn a_pid_that_is_used_again_ends_who_had_it_before() {
    let mut ledger = Ledger::default();
    ledger.keep_ended(0);
    ledger.apply(&begin(PID));
    for n in 0..100 {
        // Its exit is lost.
        ledger.apply(&fork(2 * n, PID, 20, false));
        ledger.apply(&write(2 * n + 1, 20, 0));
    }
    assert_eq!(ledger.mms().len(), 2);
    assert_eq!(ledger.owners(), 101);
    let (_, folded) = ledger.folded().next().expect("they are folded");
    assert_eq!((folded.images, faults(folded)), (99, 99));
}

/// What may happen; numbers choose among those that live.
#[derive(Clone, Debug)]
enum Step {
    Fork(usize, bool),
    Exec(usize, u8, bool),
    Exit(usize),
    Write(usize, u64),
    Map(usize, u64),
    Unmap(usize, u64),
    Advise(usize, i32, u64),
    Sample(usize, u64),
    Lose(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    let at = 0..32u64;
    let advice = prop_oneof![Just(8), Just(4), Just(21), Just(14), 1000..1200];
    prop_oneof![
        3 => (who.clone(), any::<bool>()).prop_map(|(who, vm)| Step::Fork(who, vm)),
        2 => (who.clone(), 0..4u8, any::<bool>()).prop_map(|(w, n, read)| Step::Exec(w, n, read)),
        3 => who.clone().prop_map(Step::Exit),
        6 => (who.clone(), at.clone()).prop_map(|(who, n)| Step::Write(who, n)),
        2 => (who.clone(), at.clone()).prop_map(|(who, n)| Step::Map(who, n)),
        1 => (who.clone(), at.clone()).prop_map(|(who, n)| Step::Unmap(who, n)),
        4 => (who.clone(), advice, at).prop_map(|(who, a, n)| Step::Advise(who, a, n)),
        1 => (who, 0..40u64).prop_map(|(who, pages)| Step::Sample(who, pages * PAGE)),
        1 => any::<bool>().prop_map(Step::Lose),
    ]
}

/// The events that the steps come to.
fn events(steps: &[Step]) -> Vec<Event> {
    let mut events = vec![begin(PID), mappings(0, PID)];
    let mut live = vec![PID];
    let mut next = PID;
    let mut at_ns = 0;
    for step in steps {
        at_ns += 10;
        let pick = |who: &usize| (*who < live.len()).then(|| live[*who]);
        match step {
            Step::Fork(who, shares_vm) => {
                if let Some(parent) = pick(who)
                    && live.len() < 8
                {
                    // A few pids, used again and again; now and then one of somebody who lives.
                    next = PID + 1 + (next - PID) % 11;
                    if next != parent {
                        events.push(fork(at_ns, parent, next, *shares_vm));
                        live.retain(|pid| *pid != next);
                        live.push(next);
                    }
                }
            }
            Step::Exec(who, name, read) => {
                if let Some(pid) = pick(who) {
                    events.push(exec(at_ns, pid, &format!("name{name}")));
                    events.extend(read.then(|| mappings(at_ns, pid)));
                }
            }
            Step::Exit(who) => {
                if let Some(pid) = pick(who)
                    && live.len() > 1
                {
                    events.push(exit(at_ns, pid));
                    live.retain(|one| *one != pid);
                }
            }
            Step::Write(who, n) => events.extend(pick(who).map(|pid| write(at_ns, pid, *n))),
            Step::Map(who, n) => {
                let op = Op::Mmap {
                    addr: page(*n),
                    len: 4 * PAGE,
                    prot: 3,
                    flags: 0x32,
                    fd: -1,
                    name: None,
                };
                events.extend(
                    pick(who)
                        .into_iter()
                        .flat_map(|pid| call(at_ns, pid, op.clone())),
                );
            }
            Step::Unmap(who, n) => {
                let op = munmap(*n, 2);
                events.extend(
                    pick(who)
                        .into_iter()
                        .flat_map(|pid| call(at_ns, pid, op.clone())),
                );
            }
            Step::Advise(who, advice, n) => {
                let op = madvise(Advice(*advice), *n, 3);
                events.extend(
                    pick(who)
                        .into_iter()
                        .flat_map(|pid| call(at_ns, pid, op.clone())),
                );
            }
            Step::Sample(who, bytes) => {
                events.extend(pick(who).map(|pid| sample(at_ns, pid, *bytes)));
            }
            Step::Lose(calls) => events.push(Event::Gap(Gap {
                at_ns,
                until_ns: at_ns + 5,
                faults: !calls,
                calls: *calls,
            })),
        }
    }
    events
}

fn sum<'a>(parts: impl IntoIterator<Item = &'a Totals>) -> Totals {
    let mut sum = Totals::default();
    parts.into_iter().for_each(|one| sum.add(one));
    sum
}

/// As the ledger compares them, told here once more.
fn size(mm: &Mm) -> u64 {
    let resident = mm.rss.peak_bytes.unwrap_or(0);
    resident.max(mm.totals.faults.all().bytes)
}

proptest! {
    #[test]
    fn folding_changes_no_sum(
        steps in prop::collection::vec(step(), 1..250),
        kept in prop_oneof![Just(0usize), Just(1), Just(3)],
    ) {
        let mut whole = Ledger::default();
        whole.keep_ended(usize::MAX);
        let mut bounded = Ledger::default();
        bounded.keep_ended(kept);
        for event in events(&steps) {
            whole.apply(&event);
            bounded.apply(&event);
            let ended = bounded.mms().iter().filter(|mm| mm.ended() && !mm.named);
            prop_assert!(ended.count() <= kept);
        }
        // Everyone who lives works on what it did.
        prop_assert_eq!(whole.live_pids(), bounded.live_pids());
        for pid in whole.live_pids() {
            let (one, other) = (whole.mm_of(pid), bounded.mm_of(pid));
            prop_assert_eq!(one.map(|mm| mm.serial), other.map(|mm| mm.serial));
        }
        whole.finish(1 << 40);
        bounded.finish(1 << 40);

        let all = sum(whole.mms().iter().map(|mm| &mm.totals));
        let folded: Vec<&Folded> = bounded.folded().map(|(_, sum)| sum).collect();
        let parts = bounded.mms().iter().map(|mm| &mm.totals);
        prop_assert_eq!(&sum(parts.chain(folded.iter().map(|sum| &sum.totals))), &all);
        // In another order as well.
        let parts = bounded.mms().iter().rev().map(|mm| &mm.totals);
        prop_assert_eq!(&sum(folded.iter().rev().map(|sum| &sum.totals).chain(parts)), &all);
        prop_assert_eq!(whole.owners(), bounded.owners());
        let images: u64 = folded.iter().map(|sum| sum.images).sum();
        prop_assert_eq!(images + bounded.mms().len() as u64, whole.mms().len() as u64);
        let start = |mms: &[Mm]| mms.iter().map(|mm| mm.start_ns).min();
        let first = folded.iter().map(|sum| sum.start_ns).chain(start(bounded.mms())).min();
        prop_assert_eq!(first, start(whole.mms()));
        let peak = |mms: &[Mm]| mms.iter().map(|mm| mm.rss.peak_bytes).max().flatten();
        let peaks = folded.iter().map(|sum| sum.peak_rss_bytes).max().flatten();
        prop_assert_eq!(peaks.max(peak(bounded.mms())), peak(whole.mms()));
        let missed = whole.mms().iter().filter(|mm| mm.mappings_missed()).count() as u64;
        let kept_missed = bounded.mms().iter().filter(|mm| mm.mappings_missed()).count() as u64;
        let folded_missed: u64 = folded.iter().map(|sum| sum.mappings_unknown).sum();
        prop_assert_eq!(kept_missed + folded_missed, missed);

        // The kept ones are themselves, in the order in which they came, and none that was folded is larger.
        let serials: Vec<u64> = bounded.mms().iter().map(|mm| mm.serial).collect();
        prop_assert!(serials.is_sorted());
        let here: BTreeSet<u64> = serials.into_iter().collect();
        let (stayed, went): (Vec<&Mm>, Vec<&Mm>) =
            whole.mms().iter().partition(|mm| here.contains(&mm.serial));
        for (one, other) in stayed.iter().zip(bounded.mms()) {
            prop_assert_eq!((one.pid, one.image, &one.comm), (other.pid, other.image, &other.comm));
            prop_assert_eq!((&one.totals, &one.rss), (&other.totals, &other.rss));
        }
        let smallest = stayed.iter().filter(|mm| mm.ended() && !mm.named).map(|mm| size(mm)).min();
        let largest = went.iter().map(|mm| size(mm)).max();
        prop_assert!(went.is_empty() || kept == 0 || smallest >= largest);
        if !went.is_empty() {
            let ended = stayed.iter().filter(|mm| mm.ended() && !mm.named).count();
            prop_assert_eq!(ended, kept);
        }
    }
}
