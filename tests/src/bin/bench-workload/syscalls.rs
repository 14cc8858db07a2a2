//! Makes the cheapest system call over and over: what every call pays while calls of anyone are traced.
//!
//! `syscalls CALLS ROUNDS`

use crate::rounds::Rounds;

pub fn main() {
    let [calls, rounds] = [0, 1].map(crate::argument);
    let act = crate::begin();
    let mut times = Rounds::new(rounds, calls);
    act.turns("act", || {
        for _ in 0..rounds {
            times.time(|| {
                for _ in 0..calls {
                    // SAFETY: it takes nothing and returns a number.
                    unsafe { libc::syscall(libc::SYS_getppid) };
                }
            });
        }
        times.report()
    });
}
