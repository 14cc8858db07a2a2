//! Tests of who is looked at when, and of what is kept of whom, with looks that end when the test says so.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};

use super::found::State;
use super::*;
use crate::ledger::Ledger;
use crate::ledger::event::{Begin, Event, Exit, Fork};
use crate::runtime::Depth;
use crate::runtime::detect::Look;

const SLOW: Image = (1, 0);
const PLAIN: Image = (2, 0);

/// A look that tells this.
fn saw(problem: &str) -> Look {
    let mut look = Look::default();
    look.runtimes.problems.push(problem.to_owned());
    look
}

fn cut() -> Look {
    Look {
        cut: true,
        ..saw("cut")
    }
}

fn with(look: impl Fn(Image, Depth) -> Look + Send + Sync + 'static) -> Recognise {
    Recognise::with(Box::new(move |pid, depth, _| look((pid, 0), depth)))
}

/// A ledger with a process of this pid.
fn ledger_of(pid: u32) -> Ledger {
    let mut ledger = Ledger::default();
    begin(&mut ledger, pid);
    ledger
}

fn begin(ledger: &mut Ledger, pid: u32) {
    ledger.apply(&Event::Begin(Begin {
        at_ns: 0,
        pid,
        comm: "make".to_owned(),
        before_exec: false,
    }));
}

fn exit(ledger: &mut Ledger, pid: u32, at_ns: u64) {
    ledger.apply(&Event::Exit(Exit {
        at_ns,
        pid,
        status: None,
    }));
}

fn fork(ledger: &mut Ledger, parent_pid: u32, pid: u32, at_ns: u64) {
    ledger.apply(&Event::Fork(Fork {
        at_ns,
        parent_pid,
        pid,
        shares_vm: false,
        followed: true,
    }));
}

/// What is said of an image that lives.
fn problems(recognise: &mut Recognise, image: Image) -> Vec<String> {
    recognise.collect();
    state(recognise, image).told(true).problems
}

fn state(recognise: &Recognise, image: Image) -> MutexGuard<'_, State> {
    recognise.living[&image].found.lock()
}

/// Something that looks wait for, until it is let go.
fn gate() -> (Sender<()>, impl Fn() + Send + Sync) {
    let (open, opened) = channel();
    let opened = Mutex::new(opened);
    (open, move || {
        let _ = opened.lock().unwrap().recv();
    })
}

/// What is known once it is known.
fn seen(recognise: &mut Recognise, image: Image) -> Vec<String> {
    loop {
        recognise.wait_for_header(&[image]);
        if state(recognise, image).seen_ns > 0 {
            return problems(recognise, image);
        }
    }
}

#[test]
fn a_look_that_was_cut_short_is_followed_by_a_thorough_one() {
    let mut recognise = with(|_, depth| match depth {
        Depth::Quick => cut(),
        Depth::Thorough => saw("all"),
    });
    recognise.ask(SLOW);
    while state(&recognise, SLOW).waits > 0 {
        recognise.collect();
    }
    assert_eq!(problems(&mut recognise, SLOW), ["all"]);
}

#[test]
fn a_thorough_look_keeps_no_other_process_waiting() {
    let (open, wait) = gate();
    let mut recognise = with(move |image, depth| match (image, depth) {
        (SLOW, Depth::Quick) => cut(),
        (SLOW, Depth::Thorough) => {
            wait();
            saw("late")
        }
        _ => saw("plain"),
    });
    recognise.ask(SLOW);
    assert_eq!(seen(&mut recognise, SLOW), ["cut"]);
    recognise.ask(PLAIN);
    assert_eq!(seen(&mut recognise, PLAIN), ["plain"]);
    assert_eq!(problems(&mut recognise, SLOW), ["cut"]);
    drop(open);
}

#[test]
fn a_look_that_hangs_loses_its_thread_and_no_other_process_its_look() {
    let (open, wait) = gate();
    let mut recognise = with(move |image, _| {
        if image == SLOW {
            wait();
        }
        saw("plain")
    });
    recognise.ask(SLOW);
    recognise.ask(PLAIN);
    // The header does not wait for it for ever.
    recognise.wait_for_header(&[SLOW, PLAIN]);
    assert_eq!(recognise.line(SLOW), None);
    let unknown = "which allocators and runtimes it has is not known: \
                   the look at its files had not ended when the run did";
    assert_eq!(problems(&mut recognise, PLAIN), [unknown]);
    recognise.lanes.replace_hanging(clock::now_ns());
    let late_ns = clock::now_ns() + 60_000_000_000;
    recognise.lanes.replace_hanging(late_ns);
    assert_eq!(seen(&mut recognise, PLAIN), ["plain"]);
    // What hung tells in the end all the same.
    drop(open);
    assert_eq!(seen(&mut recognise, SLOW), ["plain"]);
}

#[test]
fn those_that_cannot_even_wait_are_not_known_and_said_to_be() {
    let (open, wait) = gate();
    let mut recognise = with(move |_, _| {
        wait();
        saw("plain")
    });
    let refused = (0..300).map(|pid| (pid, 0)).filter(|image| {
        recognise.ask(*image);
        state(&recognise, *image).refused
    });
    let refused: Vec<_> = refused.collect();
    // One may be looked at already.
    assert!((43..=44).contains(&refused.len()), "{}", refused.len());
    assert_eq!(
        problems(&mut recognise, refused[0]),
        ["which allocators and runtimes it has is not known: \
             too many processes were waiting for a look at their files"]
    );
    drop(open);
}

#[test]
fn the_end_of_the_run_stops_a_look_and_waits_for_none() {
    let (stopped, stops) = channel();
    let (begun, begins) = channel();
    let looker: Box<Looker> = Box::new(move |_, _, stop| {
        begun.send(()).unwrap();
        while !stop.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        stopped.send(()).unwrap();
        Look::default()
    });
    let mut recognise = Recognise::with(looker);
    recognise.ask(SLOW);
    begins.recv().unwrap();
    drop(recognise);
    stops.recv().unwrap();
}

#[test]
fn a_child_has_what_is_learnt_of_its_parent_later() {
    let (open, wait) = gate();
    let mut recognise = with(move |_, _| {
        wait();
        saw("parents")
    });
    let (child, grandchild) = ((3, 0), (4, 0));
    recognise.ask(PLAIN);
    recognise.inherit(PLAIN, child);
    recognise.inherit(child, grandchild);
    drop(open);
    assert_eq!(seen(&mut recognise, PLAIN), ["parents"]);
    assert_eq!(problems(&mut recognise, grandchild), ["parents"]);
    recognise.inherit(PLAIN, (5, 0));
    assert_eq!(problems(&mut recognise, (5, 0)), ["parents"]);
}

#[test]
fn what_shows_less_than_before_takes_nothing_back() {
    let looks = Arc::new(Mutex::new(Vec::<Look>::new()));
    let queue = Arc::clone(&looks);
    let mut recognise = with(move |_, _| queue.lock().unwrap().pop().unwrap());
    let gone = Look {
        gone: true,
        ..Look::default()
    };
    *looks.lock().unwrap() = vec![gone, saw("first")];
    recognise.ask(PLAIN);
    assert_eq!(seen(&mut recognise, PLAIN), ["first"]);
    recognise.ask(PLAIN);
    while state(&recognise, PLAIN).waits > 0 {
        recognise.collect();
    }
    assert_eq!(problems(&mut recognise, PLAIN), ["first"]);
}

#[test]
fn two_that_had_the_same_pid_keep_what_was_recognised_in_each() {
    let names = Mutex::new(vec!["second", "first"]);
    let mut recognise = with(move |_, _| saw(names.lock().unwrap().pop().unwrap()));
    let mut ledger = Ledger::default();
    for name in ["first", "second"] {
        begin(&mut ledger, PLAIN.0);
        recognise.ask(PLAIN);
        assert_eq!(seen(&mut recognise, PLAIN), [name]);
        let end_ns = clock::now_ns() + 1;
        recognise.image_ends(ledger.mm_of(PLAIN.0).expect("it lives"), end_ns);
        exit(&mut ledger, PLAIN.0, end_ns);
    }
    // Nothing is known of this one.
    begin(&mut ledger, PLAIN.0);
    recognise.inherit((9, 0), PLAIN);
    let mms = ledger.mms();
    assert_eq!(recognise.of(&mms[0]).problems, ["first"]);
    assert_eq!(recognise.of(&mms[1]).problems, ["second"]);
    assert!(recognise.of(&mms[2]).problems.is_empty());
}

#[test]
fn an_answer_that_an_earlier_process_asked_for_is_not_the_next_ones() {
    let (open, wait) = gate();
    let names = Mutex::new(vec!["second", "first"]);
    let mut recognise = with(move |_, _| {
        wait();
        saw(names.lock().unwrap().pop().unwrap())
    });
    let mut ledger = ledger_of(PLAIN.0);
    recognise.ask(PLAIN);
    let end_ns = clock::now_ns() + 60_000_000_000;
    recognise.image_ends(&ledger.mms()[0], end_ns);
    exit(&mut ledger, PLAIN.0, end_ns);
    begin(&mut ledger, PLAIN.0);
    recognise.ask(PLAIN);
    open.send(()).unwrap();
    while recognise.of(&ledger.mms()[0]).problems != ["first"] {}
    assert_eq!(state(&recognise, PLAIN).seen_ns, 0);
    drop(open);
    assert_eq!(seen(&mut recognise, PLAIN), ["second"]);
    assert_eq!(recognise.of(&ledger.mms()[0]).problems, ["first"]);
}

#[test]
fn a_look_counts_if_it_began_before_the_end_whichever_is_told_first() {
    for (late, end_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let (open, wait) = gate();
        let mut recognise = with(move |_, _| {
            wait();
            saw("seen")
        });
        let mut ledger = ledger_of(PLAIN.0);
        recognise.ask(PLAIN);
        recognise.inherit(PLAIN, (3, 0));
        fork(&mut ledger, PLAIN.0, 3, 1);
        let found = recognise.living[&PLAIN].found.clone();
        let end_ns = if late { 2 } else { u64::MAX };
        if end_first {
            recognise.image_ends(&ledger.mms()[0], end_ns);
            // Nobody can look at one that has ended; that is no news.
            exit(&mut ledger, PLAIN.0, end_ns);
            assert!(recognise.of(&ledger.mms()[0]).problems.is_empty());
        }
        drop(open);
        while found.lock().waits > 0 {
            recognise.collect();
        }
        if !end_first {
            recognise.image_ends(&ledger.mms()[0], end_ns);
            exit(&mut ledger, PLAIN.0, end_ns);
        }
        // What its child has is no other.
        for mm in ledger.mms() {
            let problems = recognise.of(mm).problems;
            assert_eq!(problems == ["seen"], !late, "{}: {problems:?}", mm.pid);
        }
    }
}

#[test]
fn the_end_of_a_child_is_not_its_parents() {
    let mut recognise = with(|_, _| saw("seen"));
    let mut ledger = ledger_of(PLAIN.0);
    recognise.ask(PLAIN);
    recognise.inherit(PLAIN, (3, 0));
    fork(&mut ledger, PLAIN.0, 3, 1);
    recognise.image_ends(ledger.mm_of(3).expect("it lives"), 2);
    exit(&mut ledger, 3, 2);
    assert_eq!(seen(&mut recognise, PLAIN), ["seen"]);
    assert_eq!(recognise.of(&ledger.mms()[1]).problems, ["seen"]);
}

#[test]
fn what_is_kept_of_ended_images_is_bounded_by_the_ledgers() {
    let mut recognise = with(|_, _| saw("seen"));
    let mut ledger = ledger_of(1);
    ledger.keep_ended(10);
    recognise.ask((1, 0));
    let mut most = 0;
    for pid in 2..10_000 {
        let at_ns = u64::from(pid);
        fork(&mut ledger, 1, pid, at_ns);
        recognise.inherit((1, 0), (pid, 0));
        recognise.image_ends(ledger.mm_of(pid).expect("it lives"), at_ns + 1);
        recognise.forget_all_but(ledger.mms());
        exit(&mut ledger, pid, at_ns + 1);
        most = most.max(recognise.ended.len());
    }
    assert_eq!(recognise.living.len(), 1);
    assert!(most <= SPARE + 2 * 12, "{most}");
    assert_eq!(seen(&mut recognise, (1, 0)), ["seen"]);
    for mm in ledger.mms() {
        assert_eq!(recognise.of(mm).problems, ["seen"]);
    }
}

#[test]
fn images_whose_end_was_lost_are_forgotten() {
    let mut recognise = with(|_, _| saw("seen"));
    recognise.ask((1, 0));
    for pid in 2..10_000 {
        recognise.inherit((1, 0), (pid, 0));
        recognise.forget_all_but(&[]);
        assert!(recognise.living.len() <= SPARE);
        if !recognise.living.contains_key(&(1, 0)) {
            return;
        }
    }
    panic!("nothing was forgotten");
}
