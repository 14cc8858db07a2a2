//! Which mappings have pages of their own, and what of them a forked child gets.

use std::ops::Range;

use super::pages::Page;
use super::space::{EVERYWHERE, PAGE, PMD, Space};
use super::states::Found;
use super::vma::Vma;

impl Space {
    /// The space of a forked child (kernel/fork.c:dup_mmap).
    pub fn fork(&self) -> Self {
        let mut child = self.clone();
        for (run, vma) in self.vmas.iter() {
            if vma.mapping.flags.dont_fork {
                child.unmap(run);
            } else if vma.mapping.flags.wipe_on_fork || !self.is_copied(&run, vma) {
                let vma = Vma {
                    traced: true,
                    written: false,
                    forked: false,
                    ..vma.clone()
                };
                // What was given back still was.
                let mut given_back = Vec::new();
                if !vma.mapping.flags.wipe_on_fork {
                    self.pages.each(run.clone(), |run, page| match page {
                        Page::Released(release) | Page::PerhapsBack(release) => {
                            given_back.push((run, Page::Released(release)));
                        }
                        _ => {}
                    });
                }
                child.map(run, vma);
                for (run, page) in given_back {
                    child.pages.set(run, page);
                }
            } else if vma.written {
                child.change_vmas(run, |vma| vma.forked = true);
            }
        }
        child.pages.change(EVERYWHERE, |page| match page {
            Page::Released(release) => Page::Released(release.inherited()),
            Page::PerhapsBack(release) => Page::PerhapsBack(release.inherited()),
            Page::Zero {
                class,
                release: Some(release),
            } => Page::Zero {
                class,
                release: Some(release.inherited()),
            },
            page => page,
        });
        child
    }

    /// True where a child gets the pages of a mapping, and not only the mapping. A kernel that joins
    /// it with a neighbour copies both or none.
    fn is_copied(&self, run: &Range<u64>, vma: &Vma) -> bool {
        if vma.mapping.shared {
            return false;
        }
        vma.written || self.is_joined_to_written(run, vma)
    }

    /// True where the kernel joins it with a neighbour that has an anon_vma, as far as is known.
    fn is_joined_to_written(&self, run: &Range<u64>, vma: &Vma) -> bool {
        let next_to = |at: u64| {
            self.vma_at(at).is_some_and(|beside| {
                let alike = vma.mapping.flags.may_be_joined_with(beside.mapping.flags);
                beside.written && !beside.forked && beside.is_private_anon() && alike
            })
        };
        vma.is_private_anon() && (next_to(run.start.wrapping_sub(PAGE)) || next_to(run.end))
    }

    /// A private page of the mapping around `addr` has been populated.
    pub fn write_to(&mut self, addr: u64) {
        if let Some((run, _)) = self.vmas.get(addr) {
            self.vmas.change(run, |_, vma| {
                let vma = vma.clone();
                Some(Vma {
                    written: true,
                    ..vma
                })
            });
        }
    }

    /// A call populates what is mapped in `range`, or a part of it. If it only reads, it maps the zero page
    /// where no huge page may come.
    pub fn write_to_all(&mut self, range: Range<u64>, reads: bool) {
        let untouched: Vec<u64> = self
            .vmas
            .within(range)
            .filter(|(_, vma)| !vma.written && !vma.mapping.shared)
            .filter(|(_, vma)| !reads || self.folio_sizes(vma).largest() >= PMD)
            .map(|(run, _)| run.start)
            .collect();
        for addr in untouched {
            self.write_to(addr);
        }
    }

    /// As [`Space::map`], for new memory, which the kernel joins with what was written beside it.
    pub fn map_new(&mut self, range: Range<u64>, mut vma: Vma) -> Found {
        vma.written |= self.is_joined_to_written(&range, &vma);
        self.map(range, vma)
    }
}
