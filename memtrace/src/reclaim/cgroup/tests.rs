//! Tests of the asking against a cgroup that is made up.

use super::*;

const M: u64 = 1 << 20;

/// A cgroup whose list has page cache in front of what is lazily free.
struct Fake {
    cache: u64,
    lazy: u64,
    /// Of what is lazily free, the kernel leaves so much.
    kept: u64,
    asked: Vec<u64>,
    looks: u32,
    dies_after: Option<usize>,
    refuses: Option<i32>,
}

impl Fake {
    fn new(cache: u64, lazy: u64) -> Self {
        Self {
            cache,
            lazy,
            kept: 0,
            asked: Vec::new(),
            looks: 0,
            dies_after: None,
            refuses: None,
        }
    }

    fn run(&mut self) -> Squeeze {
        self.watched(|_| ControlFlow::Continue(()))
    }

    fn watched(&mut self, watch: impl FnMut(u64) -> ControlFlow<()>) -> Squeeze {
        let before = self.sums().unwrap().unwrap();
        self.looks = 0;
        let inactive = self.cache + self.lazy;
        squeeze(self, before, Some(inactive), watch).unwrap()
    }
}

impl Kernel for Fake {
    fn reclaim(&mut self, bytes: u64) -> io::Result<()> {
        assert!(self.asked.len() < 1000 && bytes <= STEP && bytes > 0);
        if let Some(errno) = self.refuses {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.asked.push(bytes);
        let of_cache = bytes.min(self.cache);
        self.cache -= of_cache;
        let of_lazy = (bytes - of_cache).min(self.lazy - self.kept);
        self.lazy -= of_lazy;
        match of_cache + of_lazy == bytes {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        }
    }

    fn sums(&mut self) -> io::Result<Option<Rollup>> {
        self.looks += 1;
        let dead = self
            .dies_after
            .is_some_and(|calls| self.asked.len() >= calls);
        Ok((!dead).then(|| Rollup {
            rss_bytes: 100 * M + self.lazy,
            lazyfree_bytes: self.lazy,
            ..Rollup::default()
        }))
    }
}

#[test]
fn it_asks_for_what_is_lazily_free_and_no_more() {
    let mut group = Fake::new(0, 150 * M);
    let done = group.run();
    // A look after each 64M: what is left then is what is asked for.
    assert_eq!(group.asked, [64 * M, 64 * M, 22 * M]);
    assert_eq!((done.ending, done.calls), (Ending::Done, 3));
    assert_eq!(done.asked_bytes, 150 * M);
    assert_eq!(done.after.unwrap().lazyfree_bytes, 0);
}

#[test]
fn looks_are_fewer_than_steps_where_there_is_much() {
    let mut group = Fake::new(0, 4096 * M);
    let done = group.run();
    assert_eq!((done.ending, done.asked_bytes), (Ending::Done, 4096 * M));
    assert!(
        group.looks < 20 && group.asked.len() >= 64,
        "{}",
        group.looks
    );
}

#[test]
fn page_cache_that_goes_first_is_asked_for_too() {
    let mut group = Fake::new(500 * M, 100 * M);
    let done = group.run();
    assert_eq!((done.ending, group.cache, group.lazy), (Ending::Done, 0, 0));
    assert_eq!(done.asked_bytes, 600 * M);
}

#[test]
fn no_more_is_asked_for_than_the_list_held() {
    let mut group = Fake::new(0, 100 * M);
    group.cache = 1000 * M;
    let before = group.sums().unwrap().unwrap();
    let go_on = |_| ControlFlow::Continue(());
    let done = squeeze(&mut group, before, Some(300 * M), go_on).unwrap();
    assert_eq!((done.ending, done.asked_bytes), (Ending::AskedAll, 364 * M));
    assert_eq!(group.lazy, 100 * M);
}

#[test]
fn what_the_kernel_cannot_take_is_asked_for_three_times_in_vain() {
    let mut group = Fake::new(0, 10 * M);
    group.kept = 4 * M;
    let done = group.run();
    // 10 asked, 6 taken; then 4, three times.
    assert_eq!(group.asked, [10 * M, 4 * M, 4 * M, 4 * M]);
    assert_eq!(done.ending, Ending::InVain);
    assert_eq!(done.after.unwrap().lazyfree_bytes, 4 * M);
}

#[test]
fn an_end_of_the_process_is_a_normal_end() {
    let mut group = Fake::new(0, 200 * M);
    group.dies_after = Some(2);
    let done = group.run();
    assert_eq!((done.ending, done.after), (Ending::Gone, None));
    assert_eq!(group.asked.len(), 2);
}

#[test]
fn it_can_be_stopped_between_two_steps() {
    let mut group = Fake::new(0, 200 * M);
    let mut steps = 0;
    let done = group.watched(|_| {
        steps += 1;
        match steps {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert_eq!((done.ending, done.calls), (Ending::Interrupted, 2));
    assert_eq!(done.after.unwrap().lazyfree_bytes, 72 * M);
}

#[test]
fn another_error_of_the_kernel_is_handed_on() {
    let mut group = Fake::new(0, 200 * M);
    let before = group.sums().unwrap().unwrap();
    group.refuses = Some(libc::EIO);
    let failed = squeeze(&mut group, before, None, |_| ControlFlow::Continue(()));
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(libc::EIO));
}
