//! A fork: what the child has of its parent's pages.

use super::super::snapshot::{Kind, Snapshot};
use super::page::{Lazy, Page, Touched};
use super::process::Process;
use super::truth::Truth;

impl Process {
    /// The child, with what pagemap shows of it when it begins.
    pub fn child(&mut self, pid: u32, now: Snapshot) -> Self {
        self.truth.shared = true;
        let mut child = Self {
            pid,
            now,
            truth: Truth {
                shared: true,
                unseen: self.truth.unseen,
                ..Truth::default()
            },
            ..self.clone()
        };
        for (index, page) in child.pages.iter_mut().enumerate() {
            let here = child.now.pages[index];
            let Some(mapped) = here.mapped else {
                *page = Page::default();
                continue;
            };
            if mapped.wiped && mapped.kind == Kind::Anonymous {
                *page = Page::default();
                continue;
            }
            if let Some(given) = &mut page.given {
                given.inherited = true;
            }
            if !here.present && page.given.is_none() && page.touched == Touched::Yes {
                // The fork copies no pages of mappings that have no anonymous ones.
                page.touched = Touched::No;
                page.zero = None;
            }
            // Not counted among what the child has marked.
            page.lazy = Lazy::No;
        }
        child
    }
}
