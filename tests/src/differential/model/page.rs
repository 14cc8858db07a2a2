//! What the model knows of one page, and the classes that a fault on it can have.

/// The classes of faults, in the summary's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    FirstTouch,
    RefaultDontneed,
    RefaultFree,
    RefaultOther,
    Cow,
    File,
    Unknown,
}

impl Class {
    pub const ALL: [Self; 7] = [
        Self::FirstTouch,
        Self::RefaultDontneed,
        Self::RefaultFree,
        Self::RefaultOther,
        Self::Cow,
        Self::File,
        Self::Unknown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::FirstTouch => "first_touch",
            Self::RefaultDontneed => "refault_dontneed",
            Self::RefaultFree => "refault_free",
            Self::RefaultOther => "refault_other",
            Self::Cow => "cow",
            Self::File => "file",
            Self::Unknown => "unknown",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// The lines that may stand for one fault: a set of classes, each as a fault or as the first write after a
/// read that mapped the zero page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expected(u16);

impl Expected {
    pub const ANY: Self = Self(u16::MAX);
    pub const NONE: Self = Self(0);

    pub fn fault(class: Class) -> Self {
        Self(1 << class as u16)
    }

    pub fn zero_write(class: Class) -> Self {
        Self(1 << (class as u16 + 8))
    }

    pub fn line(class: Class, zero_write: bool) -> Self {
        if zero_write {
            Self::zero_write(class)
        } else {
            Self::fault(class)
        }
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn allows(self, line: Self) -> bool {
        self.0 & line.0 != 0
    }

    pub fn is_one(self) -> bool {
        self.0.count_ones() == 1
    }

    /// The class, where there is one only and it is a fault of its own.
    pub fn class(self) -> Option<Class> {
        Class::ALL.into_iter().find(|&c| self == Self::fault(c))
    }

    pub fn words(self) -> String {
        if self == Self::ANY {
            return "any".to_owned();
        }
        let mut words = Vec::new();
        for class in Class::ALL {
            if self.allows(Self::fault(class)) {
                words.push(class.name().to_owned());
            }
            if self.allows(Self::zero_write(class)) {
                words.push(format!("zero_page_write of {}", class.name()));
            }
        }
        words.join("|")
    }
}

/// Whether a page was populated since it was mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Touched {
    #[default]
    No,
    /// It was mapped before the trace, or may have come with a fault near it.
    Maybe,
    Yes,
}

/// MADV_FREE's mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lazy {
    #[default]
    No,
    Clean,
    /// Written again since, without a fault.
    Reused,
}

/// By what a page was given back. `by` is the advice's name; empty for mremap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenBack {
    pub class: Class,
    pub by: String,
    pub inherited: bool,
    /// It may as well be that it was not, as far as events can tell.
    pub doubtful: bool,
    /// By what else it may have been, then.
    pub or: Expected,
}

impl GivenBack {
    pub fn in_doubt(self) -> Self {
        Self {
            doubtful: true,
            ..self
        }
    }

    /// The page went at once, whatever was done to it before.
    pub fn for_certain(&self) -> bool {
        !["MADV_FREE", "MADV_PAGEOUT"].contains(&&*self.by)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Mapped before the trace.
    pub old: bool,
    pub touched: Touched,
    pub given: Option<GivenBack>,
    pub lazy: Lazy,
    /// Which class the read had that mapped the zero page here, and the advice that it is a refault of.
    pub zero: Option<(Expected, Option<GivenBack>)>,
    /// A call failed that may have been applied to it or not, as far as events tell.
    pub shaken: bool,
    /// MADV_GUARD_INSTALL was applied: a touch is refused.
    pub guarded: bool,
}

impl Page {
    pub fn was_populated(&self) -> bool {
        self.touched != Touched::No || self.given.is_some()
    }
}
