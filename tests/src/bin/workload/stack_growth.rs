//! Goes deep into recursion: the stack grows by first touches.

use memtrace_tests::scene::Scene;

const DEPTH: usize = 512;
const FRAME_BYTES: usize = 4096;

pub fn main() {
    let mut act = Scene::open().ready();
    let before = act.faults();
    descend(DEPTH);
    let grown = act.faults() - before;
    act.report(&[
        ("frames", DEPTH as i64),
        ("frame_bytes", FRAME_BYTES as i64),
        ("grown", grown as i64),
    ]);
}

#[inline(never)]
fn descend(depth: usize) -> u8 {
    let mut frame = [0u8; FRAME_BYTES];
    std::hint::black_box(&mut frame);
    if depth == 0 {
        return frame[0];
    }
    descend(depth - 1).wrapping_add(frame[depth])
}
