//! What is to be said of memory that was taken through a cgroup.

use super::live::shown;
use super::{Ending, Work};
use crate::proc::smaps::Rollup;
use crate::reclaim::outcome::WORTH_TELLING;
use crate::units::{Bytes, counted};

impl Work {
    /// What was left, and what else the cgroup has lost.
    pub(in crate::reclaim) fn notes(&self, after: &Rollup) -> Vec<String> {
        let mut notes = Vec::new();
        let (plan, left) = (&self.plan, after.lazyfree_bytes);
        match self.squeeze.ending {
            Ending::InVain if left > 0 => notes.push(format!(
                "{} is still lazily free: the kernel can take no more of this cgroup (locked memory, pages charged to \
                 another cgroup or in a CPU's batch)",
                Bytes(left)
            )),
            Ending::AskedAll if left > 0 => notes.push(format!(
                "{} is still lazily free, though all was asked for that could be taken at first: other memory of the \
                 cgroup went instead",
                Bytes(left)
            )),
            _ => {}
        }
        match self.cache_lost_bytes() {
            None => notes.push(format!(
                "how much page cache went with it is not known: {}/memory.stat does not tell",
                shown(&plan.dir)
            )),
            Some(lost @ WORTH_TELLING..) => notes.push(format!(
                "the cgroup's page cache shrank by {}: reading it again will hit the disk",
                Bytes(lost)
            )),
            Some(_) => {}
        }
        if plan.others > 0 {
            notes.push(format!(
                "{} in {}: page cache and what was lazily free may have been theirs",
                counted(plan.others, "other process"),
                shown(&plan.dir)
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, Squeeze};
    use super::*;
    use crate::proc::cgroup::place::Charged;

    fn notes(ending: Ending, others: u64, cache: [Option<u64>; 2], left: u64) -> Vec<String> {
        let charged = |file_bytes| Charged {
            file_bytes,
            ..Charged::default()
        };
        let after = Rollup {
            lazyfree_bytes: left,
            ..Rollup::default()
        };
        let work = Work {
            plan: Plan {
                dir: "/cg/x".into(),
                others,
                ourselves: false,
                swappiness: true,
                swap_room_bytes: 0,
                charged: charged(cache[0]),
            },
            squeeze: Squeeze {
                ending,
                after: Some(after),
                asked_bytes: 1,
                calls: 1,
            },
            charged_after: charged(cache[1]),
        };
        work.notes(&after)
    }

    #[test]
    fn page_cache_that_went_is_told_and_none_is_not() {
        let lost = notes(Ending::Done, 0, [Some(9 << 20), Some(2 << 20)], 0);
        assert_eq!(lost.len(), 1);
        assert!(lost[0].starts_with("the cgroup's page cache shrank by 7.00M"));
        assert!(notes(Ending::Done, 0, [Some(9), Some(9)], 0).is_empty());
        assert!(notes(Ending::Done, 0, [Some(9), Some(5 << 20)], 0).is_empty());
        let unknown = notes(Ending::Done, 0, [Some(9), None], 0);
        assert!(unknown[0].contains("is not known"), "{unknown:?}");
    }

    #[test]
    fn what_is_left_is_told_with_why_and_others_are_named() {
        let left = notes(Ending::InVain, 2, [Some(0), Some(0)], 3 << 20);
        assert!(left[0].starts_with("3.00M is still lazily free: the kernel can take no more"));
        assert!(
            left[1].starts_with("2 other processes in /cg/x"),
            "{left:?}"
        );
        let left = notes(Ending::AskedAll, 0, [Some(0), Some(0)], 3 << 20);
        assert!(left[0].contains("other memory of the cgroup went instead"));
    }
}
