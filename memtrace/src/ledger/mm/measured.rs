//! Bytes as the kernel counted them, with `--exact-bytes`: what each fault brought.

use super::super::event::Populated;
use super::super::totals::add;
use super::Mm;

impl Mm {
    /// Begins to take bytes from the kernel's count.
    pub(in crate::ledger) fn measure(&mut self, at_ns: u64) {
        if self.measured.is_none() && at_ns > self.start_ns {
            self.totals.unfaulted_late = true;
        }
        self.measured.get_or_insert_default();
        self.totals.unfaulted_bytes.get_or_insert(0);
    }

    /// Adds what a fault brought, or notes that it came without one.
    pub(in crate::ledger) fn populated(&mut self, event: &Populated) {
        let Some(faults) = &mut self.measured else {
            return;
        };
        let fault = faults
            .get_mut(&event.tid)
            .filter(|fault| event.in_user_fault != fault.by_kernel);
        let Some(fault) = fault else {
            add(self.totals.unfaulted_bytes.get_or_insert(0), event.bytes);
            return;
        };
        let last = *fault;
        // What else a system call brings afterwards is no fault's.
        if fault.by_kernel {
            faults.remove(&event.tid);
        }
        if last.copied {
            return;
        }
        let class = self.totals.faults.class_mut(last.class);
        class.measure(event.bytes);
        self.refaulted(last.release, event.bytes);
    }
}
