//! The running totals of page faults: how many of each class, what they brought, and how that is known.

use super::totals::{Basis, FaultClass, add};

/// Faults of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassTotals {
    pub faults: u64,
    /// The least that they brought.
    pub bytes: u64,
    /// The part of `bytes` that the kernel counted.
    pub measured_bytes: u64,
    /// The kernel counts what they bring, 0 bytes included.
    pub measured: bool,
    /// The part that rests on a guess: which page came, or that one did at all. Nothing loose is in it.
    pub derived_bytes: u64,
    /// The part of faults that may have brought a larger folio.
    pub loose_bytes: u64,
    /// How much more these may have brought.
    pub extra_bytes: u64,
    /// Faults were lost that may have been of this class.
    pub lost: bool,
}

/// What so many faults brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// The least, in all.
    pub bytes: u64,
    /// That rests on a guess.
    pub derived: bool,
    /// How many bytes of it are of faults that may have brought more, and how much more.
    pub loose: u64,
    pub extra: u64,
    /// The kernel counts it: it comes later.
    pub measured: bool,
}

impl ClassTotals {
    /// The weakest basis of any of the bytes. What brought nothing weakens nothing.
    pub fn basis(&self) -> Basis {
        if self.lost || self.extra_bytes > 0 {
            Basis::LowerBound
        } else if self.derived_bytes > 0 {
            Basis::Derived
        } else if self.measured {
            Basis::Measured
        } else {
            Basis::Exact
        }
    }

    /// The most that they can have brought; None where some were lost.
    pub fn most_bytes(&self) -> Option<u64> {
        (!self.lost).then(|| self.bytes.saturating_add(self.extra_bytes))
    }

    pub(super) fn count(&mut self, faults: u64, brought: Brought) {
        self.faults += faults;
        add(&mut self.bytes, brought.bytes);
        // Of what may be more the weaker word is said.
        if brought.derived {
            let alone = brought.bytes.saturating_sub(brought.loose);
            add(&mut self.derived_bytes, alone);
        }
        add(&mut self.loose_bytes, brought.loose);
        add(&mut self.extra_bytes, brought.extra);
        self.measured |= brought.measured;
    }

    /// A later fault proves that one of them brought its own page only.
    pub(super) fn settle(&mut self, loose: u64, extra: u64, derived: bool) {
        self.loose_bytes = self.loose_bytes.saturating_sub(loose);
        if derived {
            add(&mut self.derived_bytes, loose);
        }
        self.extra_bytes = self.extra_bytes.saturating_sub(extra);
    }

    pub(super) fn measure(&mut self, bytes: u64) {
        add(&mut self.bytes, bytes);
        add(&mut self.measured_bytes, bytes);
    }

    fn add(&mut self, other: &Self) {
        self.faults += other.faults;
        add(&mut self.bytes, other.bytes);
        add(&mut self.measured_bytes, other.measured_bytes);
        add(&mut self.derived_bytes, other.derived_bytes);
        add(&mut self.loose_bytes, other.loose_bytes);
        add(&mut self.extra_bytes, other.extra_bytes);
        self.measured |= other.measured;
        self.lost |= other.lost;
    }
}

/// All faults of one address space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultTotals {
    /// Every fault; the classes and `zero_page_writes` add up to it.
    pub total: u64,
    classes: [ClassTotals; FaultClass::ALL.len()],
    /// First writes to a page that a read had mapped to the zero page: the read was counted
    /// in its class, the write adds its bytes there and no second fault.
    pub zero_page_writes: u64,
    /// Faults whose class rests on an order that the stamps could not settle. A subset of the others.
    pub ambiguous: u64,
}

impl FaultTotals {
    pub fn class(&self, class: FaultClass) -> &ClassTotals {
        &self.classes[class as usize]
    }

    pub fn class_mut(&mut self, class: FaultClass) -> &mut ClassTotals {
        &mut self.classes[class as usize]
    }

    /// All refaults, whatever the advice.
    pub fn refaults(&self) -> ClassTotals {
        self.sum_of(|class| class.is_refault())
    }

    /// All classes in one.
    pub fn all(&self) -> ClassTotals {
        self.sum_of(|_| true)
    }

    fn sum_of(&self, wanted: impl Fn(FaultClass) -> bool) -> ClassTotals {
        let mut sum = ClassTotals::default();
        for class in FaultClass::ALL.into_iter().filter(|class| wanted(*class)) {
            sum.add(self.class(class));
        }
        sum
    }

    /// Faults were lost, of any class.
    pub(super) fn lose(&mut self) {
        for class in &mut self.classes {
            class.lost = true;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.total += other.total;
        for (sum, one) in self.classes.iter_mut().zip(&other.classes) {
            sum.add(one);
        }
        self.zero_page_writes += other.zero_page_writes;
        self.ambiguous += other.ambiguous;
    }
}
