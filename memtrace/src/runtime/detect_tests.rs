//! Tests of the whole search.

use super::*;

#[test]
#[ignore]
fn show() {
    for pid in std::env::var("PIDS").unwrap().split_whitespace() {
        let pid: u32 = pid.parse().unwrap();
        detect(pid);
        let start = Instant::now();
        let found = detect(pid);
        println!("{pid} {:?}: {found}", start.elapsed());
        for r in &found.list {
            println!("      {} {:?} {:?}", r.kind.name(), r.gives_back, r.linkage);
        }
        println!("      {:?}", found.problems);
    }
}
