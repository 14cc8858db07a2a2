//! The lines that Go's runtime writes under GODEBUG=gctrace=1 and scavtrace=1, of every version since 1.5.
//!
//! Sources: the runtime's own (runtime/mgc.go, mheap.go, mgcscavenge.go) from Go 1.11 to 1.26. The form of
//! the lines is no promise of Go's, and so a line that differs in anything is none: nothing is guessed.

pub mod digest;
pub mod lines;

/// A line of the garbage collector or of the scavenger, which gives memory back to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Gc(GcLine),
    Scavenger(ScavengerLine),
}

/// One garbage collection. Sizes are printed in whole MiB, rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcLine {
    /// From 1 on in each process.
    pub cycle: u64,
    /// From the start of the program to that of the collection.
    pub since_start_ns: u64,
    /// The part of the program's CPU time that collections took so far; None where Go had none to divide by.
    pub cpu_percent: Option<u64>,
    /// All phases together, by the clock and in CPU time.
    pub clock_ns: u64,
    pub cpu_ns: u64,
    /// The heap when the collection began and when it ended, and what of it was found alive.
    pub heap_before_bytes: u64,
    pub heap_after_bytes: u64,
    pub heap_live_bytes: u64,
    /// The size at which this collection was to end; None where GOGC=off sets none.
    pub goal_bytes: Option<u64>,
    /// To be scanned; since Go 1.18.
    pub stacks_bytes: Option<u64>,
    pub globals_bytes: Option<u64>,
    /// GOMAXPROCS.
    pub procs: u64,
    /// By runtime.GC or debug.FreeOSMemory.
    pub forced: bool,
}

/// What the scavenger did, or what there is for it; None for what this form of the line does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScavengerLine {
    /// By debug.FreeOSMemory.
    pub forced: bool,
    /// `scvg12`: how often it has run (up to Go 1.12); `scav 12`: its generation (Go 1.15 to 1.17).
    pub generation: Option<u64>,
    /// Given back since the last line.
    pub work_bytes: Option<u64>,
    /// The parts of that, since Go 1.21: in the background, and by allocating goroutines.
    pub background_bytes: Option<u64>,
    pub eager_bytes: Option<u64>,
    /// Given back and not taken again.
    pub released_bytes: Option<u64>,
    pub in_use_bytes: Option<u64>,
    pub idle_bytes: Option<u64>,
    /// Mapped for the heap.
    pub system_bytes: Option<u64>,
    /// Mapped for the heap and not given back.
    pub consumed_bytes: Option<u64>,
    /// How much of what is not given back is in use.
    pub used_percent: Option<u64>,
}

/// No heap has half of the address space that 64 bits could name.
const NO_GOAL: u64 = 1 << 62;

/// Reads one line, without its end. What stands before it in a log (a time, a unit's name) is passed over.
pub fn parse(line: &[u8]) -> Option<Event> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let begins = |at: usize| at == 0 || matches!(line[at - 1], b' ' | b'\t');
    (0..line.len())
        .filter(|&at| matches!(line[at], b'g' | b's' | b'f') && begins(at))
        .find_map(|at| parse_whole(&line[at..]))
}

fn parse_whole(text: &[u8]) -> Option<Event> {
    type Form = fn(&mut Rest<'_>) -> Option<Event>;
    let forms: [Form; 3] = [gc, scvg, scav];
    forms.into_iter().find_map(|form| {
        let mut rest = Rest(text);
        let event = form(&mut rest)?;
        rest.0.is_empty().then_some(event)
    })
}

/// `gc 1 @0.003s 2%: 0.01+0.5+0.02 ms clock, 0.1+0.2/0.3/0+0.1 ms cpu, 4->5->1 MB, 5 MB goal, 4 P (forced)`
fn gc(rest: &mut Rest<'_>) -> Option<Event> {
    rest.word("gc ")?;
    let cycle = rest.number()?;
    rest.word(" @")?;
    let since_start_ns = rest.decimal(1_000_000_000)?;
    rest.word("s ")?;
    // Before the first collection there is nothing to divide by, and Go prints what that came to.
    let negative = rest.word("-").is_some();
    let percent = rest.number()?;
    rest.word("%: ")?;
    let clock_ns = rest.times()?;
    rest.word(" ms clock, ")?;
    let cpu_ns = rest.times()?;
    rest.word(" ms cpu, ")?;
    let heap_before_bytes = rest.mib()?;
    rest.word("->")?;
    let heap_after_bytes = rest.mib()?;
    rest.word("->")?;
    let heap_live_bytes = rest.mib()?;
    rest.word(" MB, ")?;
    // Where there is none, Go prints the largest number less a little.
    let goal_bytes = Some(rest.mib()?).filter(|goal| *goal < NO_GOAL);
    rest.word(" MB goal, ")?;
    let stacks_bytes = rest.optional(|rest| {
        let bytes = rest.mib()?;
        rest.word(" MB stacks, ")?;
        Some(bytes)
    });
    let globals_bytes = rest.optional(|rest| {
        let bytes = rest.mib()?;
        rest.word(" MB globals, ")?;
        Some(bytes)
    });
    let procs = rest.number()?;
    rest.word(" P")?;
    Some(Event::Gc(GcLine {
        cycle,
        since_start_ns,
        cpu_percent: (!negative).then_some(percent),
        clock_ns,
        cpu_ns,
        heap_before_bytes,
        heap_after_bytes,
        heap_live_bytes,
        goal_bytes,
        stacks_bytes,
        globals_bytes,
        procs,
        forced: rest.word(" (forced)").is_some(),
    }))
}

/// Up to Go 1.14, under gctrace=1: `scvg12: 8 MB released`, and
/// `scvg: inuse: 835, idle: 188, sys: 1023, released: 17, consumed: 1005 (MB)`.
fn scvg(rest: &mut Rest<'_>) -> Option<Event> {
    let forced = rest.word("forced ").is_some();
    rest.word("scvg")?;
    // debug.FreeOSMemory has no number of its own: -1, up to Go 1.12.
    let unnumbered = rest.word("-1").is_some();
    let generation = rest.optional(Rest::number);
    rest.word(": ")?;
    let line = ScavengerLine {
        forced: forced || unnumbered,
        generation,
        ..ScavengerLine::default()
    };
    let work = rest.optional(|rest| {
        let work = rest.number()?;
        let unit = [(" MB released", 20), (" KB released", 10)];
        let (_, shift) = unit
            .into_iter()
            .find(|(word, _)| rest.word(word).is_some())?;
        scaled(work, shift)
    });
    if work.is_some() {
        return Some(Event::Scavenger(ScavengerLine {
            work_bytes: work,
            ..line
        }));
    }
    rest.word("inuse: ")?;
    let in_use = rest.mib()?;
    rest.word(", idle: ")?;
    let idle = rest.mib()?;
    rest.word(", sys: ")?;
    let system = rest.mib()?;
    rest.word(", released: ")?;
    let released = rest.mib()?;
    rest.word(", consumed: ")?;
    let consumed = rest.mib()?;
    rest.word(" (MB)")?;
    Some(Event::Scavenger(ScavengerLine {
        in_use_bytes: Some(in_use),
        idle_bytes: Some(idle),
        system_bytes: Some(system),
        released_bytes: Some(released),
        // The counters are read one after the other, and the difference can come out below zero.
        consumed_bytes: Some(consumed).filter(|consumed| *consumed <= system),
        ..line
    }))
}

/// Since Go 1.14, under scavtrace=1: `scav 8 KiB work, 3120 KiB total, 96% util (forced)`; from 1.15 to 1.17
/// with a generation before the work, since 1.21 as
/// `scav 8 KiB work (bg), 0 KiB work (eager), 3120 KiB now, 96% util`.
fn scav(rest: &mut Rest<'_>) -> Option<Event> {
    rest.word("scav ")?;
    let generation = rest.optional(|rest| {
        let generation = rest.number()?;
        rest.word(" ")?;
        // Else it was the work, and its unit follows.
        rest.0.first()?.is_ascii_digit().then_some(generation)
    });
    let work = rest.kib()?;
    rest.word(" KiB work")?;
    let (background_bytes, eager_bytes) = if rest.word(" (bg), ").is_some() {
        let eager = rest.kib()?;
        rest.word(" KiB work (eager), ")?;
        (Some(work), Some(eager))
    } else {
        rest.word(", ")?;
        (None, None)
    };
    let released = rest.kib()?;
    rest.word(" KiB total, ")
        .or_else(|| rest.word(" KiB now, "))?;
    let used_percent = rest.number()?;
    rest.word("% util")?;
    let forced = rest.word(" (forced)").is_some();
    if !forced {
        // Its pacing began anew.
        let _ = rest.word(" [controller reset]");
    }
    Some(Event::Scavenger(ScavengerLine {
        forced,
        generation,
        work_bytes: Some(work.saturating_add(eager_bytes.unwrap_or(0))),
        background_bytes,
        eager_bytes,
        released_bytes: Some(released),
        used_percent: Some(used_percent),
        ..ScavengerLine::default()
    }))
}

/// What of a line is not read yet.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn word(&mut self, word: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(word.as_bytes())?;
        Some(())
    }

    /// Reads what may be there; where it is not, nothing was read.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = *self;
        let found = read(self);
        if found.is_none() {
            *self = before;
        }
        found
    }

    fn digits(&mut self) -> &[u8] {
        let end = self.0.iter().position(|byte| !byte.is_ascii_digit());
        let (digits, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        digits
    }

    fn number(&mut self) -> Option<u64> {
        value(self.digits())
    }

    /// A number with or without a fraction, in units of 1/`scale`; digits beyond that are passed over.
    fn decimal(&mut self, scale: u64) -> Option<u64> {
        let mut sum = self.number()?.checked_mul(scale)?;
        if self.word(".").is_some() {
            let digits = self.digits();
            if digits.is_empty() {
                return None;
            }
            let mut unit = scale;
            for digit in digits {
                unit /= 10;
                sum = sum.checked_add(u64::from(digit - b'0') * unit)?;
            }
        }
        Some(sum)
    }

    /// Milliseconds of the phases, `0.1+0.2/0.3/0+0.1`, added up in nanoseconds.
    fn times(&mut self) -> Option<u64> {
        const NS_PER_MS: u64 = 1_000_000;
        let mut sum = self.decimal(NS_PER_MS)?;
        while self.word("+").or_else(|| self.word("/")).is_some() {
            sum = sum.checked_add(self.decimal(NS_PER_MS)?)?;
        }
        Some(sum)
    }

    fn mib(&mut self) -> Option<u64> {
        scaled(self.number()?, 20)
    }

    fn kib(&mut self) -> Option<u64> {
        scaled(self.number()?, 10)
    }
}

/// The value of decimal digits; None without any, or where it does not fit.
fn value(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| {
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

fn scaled(value: u64, shift: u32) -> Option<u64> {
    value.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests;
