//! What is left of an address space's ledger when records were lost.

use super::super::event::Gap;
use super::super::pages::Page;
use super::Mm;

impl Mm {
    /// Forgets what the lost records may have changed. It comes back page by page: what is seen to
    /// be populated or mapped anew is known again, and mappings when they are read again. A
    /// give-back that is seen makes nothing known: there may have been nothing to give back.
    /// Pages that had no state get `untouched`.
    pub(in crate::ledger) fn doubt(&mut self, gap: &Gap, untouched: Page) {
        self.open = None;
        if gap.faults {
            self.totals.faults.lose();
            self.space.doubt_pages(untouched);
            // The bytes that come next are of a fault that nobody saw.
            if let Some(faults) = &mut self.measured {
                faults.clear();
            }
        }
        if gap.calls {
            self.totals.lose_calls();
            self.space.doubt_all(untouched);
            self.mappings_known = false;
            // Their exits may be among what was lost.
            self.in_flight.retain(|call| call.exit_ns > gap.until_ns);
        }
    }
}
