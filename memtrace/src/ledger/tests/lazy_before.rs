//! What was lazily free before the trace: counted once, wherever it goes.

use super::support::*;
use crate::ledger::advice::Advice as A;
use crate::ledger::event::{Event, Taken};

/// Ten pages from before, of which the first look shows six lazily free, and the kernel counted.
fn before() -> Scene {
    let mut s = Scene::known();
    s.mapped_before(0, 10, anon());
    s.taken(0);
    s.look(PID, 6);
    s
}

#[test]
fn it_is_not_marked_twice() {
    let mut s = before();
    s.advise(A::FREE, 0, 10);
    let lazy = s.lazy();
    assert_eq!((lazy.marked_bytes, lazy.unplaced_bytes), (4 * PAGE, 0));
    assert_eq!(lazy.ever_bytes(), 10 * PAGE);
    assert_eq!(lazy.outstanding_bytes, 10 * PAGE);
    // Six were lazily free, and are so again; whether the others were there nobody knows.
    assert_eq!(
        (lazy.marked_again_bytes, lazy.perhaps_bytes),
        (6 * PAGE, 4 * PAGE)
    );
}

#[test]
fn what_was_dropped_of_it_was_not_written_again() {
    let drops: [fn(&mut Scene); 5] = [
        |s| s.advise(A::DONTNEED, 0, 10),
        |s| s.unmap(0, 10),
        |s| s.mmap(0, 10, 0x32),
        |s| s.advise_ret(A::DONTNEED, 0, 10, -i64::from(libc::EINTR)),
        // Memory handed out anew, whose end was not seen.
        |s| s.map(0, 10),
    ];
    for drop in drops {
        let mut s = before();
        drop(&mut s);
        s.look(PID, 0);
        assert_eq!(s.lazy().dropped_bytes, 6 * PAGE);
        assert_eq!(s.lazy().reused_bytes, 0);
    }
}

#[test]
fn what_is_left_of_it_nowhere_was_written_again() {
    let mut s = before();
    s.unmap(0, 2);
    s.look(PID, 1);
    assert_eq!(s.lazy().reused_bytes, 3 * PAGE);
}

#[test]
fn a_look_that_began_before_the_last_mark_proves_nothing() {
    let mut s = before();
    s.now = 1000;
    s.advise(A::FREE, 0, 10);
    s.now = 500;
    s.look(PID, 0);
    assert_eq!(s.lazy().reused_bytes, 0);
    s.now = 2000;
    s.look(PID, 0);
    assert_eq!(s.lazy().reused_bytes, 10 * PAGE);
}

#[test]
fn what_the_kernel_took_of_an_image_before_is_not_this_ones() {
    let mut s = Scene::new();
    s.now = 100;
    let at_ns = s.tick();
    s.apply(Event::Exec(crate::ledger::event::Exec {
        at_ns,
        pid: PID,
        comm: "new".to_owned(),
        followed: true,
    }));
    for (begun_ns, known) in [(50, false), (101, true)] {
        s.apply(Event::Taken(Taken {
            at_ns: 200,
            pid: PID,
            begun_ns,
            ..Taken::default()
        }));
        let lazy = s.ledger.mm_of(PID).expect("it lives").lazy();
        assert_eq!(lazy.taken.is_some(), known);
    }
}
