//! runtime.MemStats, as net/http/pprof and expvar write it.

use std::io::Read;

use serde::Deserialize;

/// The figures of it that say where memory is (Go: runtime/mstats.go:MemStats), in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MemStats {
    /// Objects that are live, or dead and not swept yet.
    pub heap_alloc: u64,
    /// Address space of the heap: in use and idle.
    pub heap_sys: u64,
    /// Spans without an object in them, those given back included.
    pub heap_idle: u64,
    /// Spans with at least one object.
    pub heap_inuse: u64,
    /// Idle spans given back to the kernel, by MADV_FREE or MADV_DONTNEED.
    pub heap_released: u64,
    pub stack_inuse: u64,
    /// With what the C library has given to threads.
    pub stack_sys: u64,
    #[serde(rename = "MSpanSys")]
    pub mspan_sys: u64,
    #[serde(rename = "MCacheSys")]
    pub mcache_sys: u64,
    pub buck_hash_sys: u64,
    #[serde(rename = "GCSys")]
    pub gc_sys: u64,
    pub other_sys: u64,
    /// All of the above that is `...Sys`.
    pub sys: u64,
    /// The heap at which the next cycle ends.
    #[serde(rename = "NextGC")]
    pub next_gc: u64,
    /// Cycles completed.
    #[serde(rename = "NumGC")]
    pub num_gc: u64,
}

impl MemStats {
    /// Idle spans that were not given back.
    pub fn idle_kept(&self) -> u64 {
        self.heap_idle.saturating_sub(self.heap_released)
    }

    /// The runtime's own, as mapped: how much of it is resident, nothing tells.
    pub fn metadata(&self) -> u64 {
        [
            self.mspan_sys,
            self.mcache_sys,
            self.buck_hash_sys,
            self.gc_sys,
            self.other_sys,
            self.stack_sys.saturating_sub(self.stack_inuse),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// What no Go runtime says: ReadMemStats stops the world, so that its figures fit each other.
    pub fn contradiction(&self) -> Option<String> {
        let Self {
            heap_sys,
            heap_idle,
            heap_inuse,
            heap_released,
            sys,
            ..
        } = *self;
        if heap_idle.checked_add(heap_inuse) != Some(heap_sys) {
            return Some(format!(
                "HeapIdle {heap_idle} and HeapInuse {heap_inuse} are not HeapSys {heap_sys}"
            ));
        }
        if heap_released > heap_idle {
            return Some(format!(
                "HeapReleased {heap_released} is more than HeapIdle {heap_idle}"
            ));
        }
        (heap_sys > sys).then(|| format!("HeapSys {heap_sys} is more than Sys {sys}"))
    }
}

/// A line of `heap?debug=1` that may be one of them (`# HeapIdle = 8740864`, `# Stack = 688128 / 688128`).
/// Returns whether it is.
pub fn take_line(stats: &mut MemStats, line: &str) -> bool {
    let Some((name, value)) = line
        .strip_prefix("# ")
        .and_then(|rest| rest.split_once(" = "))
    else {
        return false;
    };
    // Two figures: in use / from the system.
    let (first, second) = match value.split_once(" / ") {
        Some((first, second)) => (first.trim().parse().ok(), second.trim().parse().ok()),
        None => (value.trim().parse::<u64>().ok(), None::<u64>),
    };
    let place = match name {
        "HeapAlloc" => &mut stats.heap_alloc,
        "HeapSys" => &mut stats.heap_sys,
        "HeapIdle" => &mut stats.heap_idle,
        "HeapInuse" => &mut stats.heap_inuse,
        "HeapReleased" => &mut stats.heap_released,
        "BuckHashSys" => &mut stats.buck_hash_sys,
        "GCSys" => &mut stats.gc_sys,
        "OtherSys" => &mut stats.other_sys,
        "Sys" => &mut stats.sys,
        "NextGC" => &mut stats.next_gc,
        "NumGC" => &mut stats.num_gc,
        "Stack" | "MSpan" | "MCache" => {
            let (Some(first), Some(second)) = (first, second) else {
                return false;
            };
            match name {
                "Stack" => (stats.stack_inuse, stats.stack_sys) = (first, second),
                "MSpan" => stats.mspan_sys = second,
                _ => stats.mcache_sys = second,
            }
            return true;
        }
        _ => return false,
    };
    match first {
        Some(value) => {
            *place = value;
            true
        }
        None => false,
    }
}

/// The lines of a profile that [`take_line`] knows.
pub const LINES: usize = 14;

/// The `memstats` of expvar's /debug/vars.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn from_vars(text: impl Read) -> Result<MemStats, String> {
    #[derive(Deserialize)]
    struct Vars {
        memstats: MemStats,
    }
    match serde_json::from_reader::<_, Vars>(std::io::BufReader::new(text)) {
        Ok(vars) => Ok(vars.memstats),
        Err(error) => Err(match error.classify() {
            serde_json::error::Category::Io => format!("it could not be read to its end: {error}"),
            _ => format!("it is not what expvar writes: {error}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: MemStats = MemStats {
        heap_alloc: 5_878_296,
        heap_sys: 16_089_088,
        heap_idle: 8_740_864,
        heap_inuse: 7_348_224,
        heap_released: 5_595_136,
        stack_inuse: 688_128,
        stack_sys: 700_000,
        mspan_sys: 179_520,
        mcache_sys: 15_704,
        buck_hash_sys: 1_449_741,
        gc_sys: 2_882_064,
        other_sys: 1_327_443,
        sys: 22_631_688,
        next_gc: 8_388_608,
        num_gc: 12,
    };

    #[test]
    fn vars_hold_memstats_among_other_things() {
        let text = r#"{"cmdline":["/srv","-x"],"memstats":{"Alloc":1,"HeapAlloc":5878296,"HeapSys":16089088,
            "HeapIdle":8740864,"HeapInuse":7348224,"HeapReleased":5595136,"StackInuse":688128,"StackSys":700000,
            "MSpanInuse":1,"MSpanSys":179520,"MCacheInuse":2,"MCacheSys":15704,"BuckHashSys":1449741,
            "GCSys":2882064,"OtherSys":1327443,"Sys":22631688,"NextGC":8388608,"NumGC":12,"GCCPUFraction":0.01,
            "PauseNs":[1,2],"BySize":[{"Size":0}]},"other":{"deep":[[[]]]}}"#;
        assert_eq!(from_vars(text.as_bytes()), Ok(KNOWN));
        assert_eq!(KNOWN.contradiction(), None);
        assert_eq!(KNOWN.idle_kept(), 8_740_864 - 5_595_136);
        assert_eq!(
            KNOWN.metadata(),
            179_520 + 15_704 + 1_449_741 + 2_882_064 + 1_327_443 + 11_872
        );
    }

    #[test]
    fn lines_of_a_profile_are_taken_by_name() {
        let text = "\
# runtime.MemStats
# Alloc = 1
# Sys = 22631688
# HeapAlloc = 5878296
# HeapSys = 16089088
# HeapIdle = 8740864
# HeapInuse = 7348224
# HeapReleased = 5595136
# Stack = 688128 / 700000
# MSpan = 161920 / 179520
# MCache = 9664 / 15704
# BuckHashSys = 1449741
# GCSys = 2882064
# OtherSys = 1327443
# NextGC = 8388608
# PauseNs = [530526 93371]
# NumGC = 12
# MaxRSS = 1
";
        let mut stats = MemStats::default();
        let taken = text
            .lines()
            .filter(|line| take_line(&mut stats, line))
            .count();
        assert_eq!((taken, stats), (LINES, KNOWN));
    }

    #[test]
    fn what_is_no_figure_is_no_line() {
        let mut stats = MemStats::default();
        for line in [
            "# HeapIdle = -1",
            "# HeapIdle = 18446744073709551616",
            "# Stack = 5",
            "# HeapIdle",
            "HeapIdle = 5",
            "# HeapIdle = 5 = 6",
        ] {
            assert!(!take_line(&mut stats, line), "{line}");
        }
        assert_eq!(stats, MemStats::default());
    }

    #[test]
    fn vars_without_memstats_are_said_to_be_none() {
        for text in ["", "{}", "[]", "<html>", r#"{"memstats":{"HeapAlloc":-1}}"#] {
            let error = from_vars(text.as_bytes()).unwrap_err();
            assert!(error.contains("not what expvar writes"), "{error}");
        }
    }

    #[test]
    fn figures_that_contradict_each_other_are_told() {
        let told = |change: fn(&mut MemStats)| {
            let mut stats = KNOWN;
            change(&mut stats);
            stats.contradiction().unwrap()
        };
        assert!(told(|s| s.heap_idle += 1).contains("are not HeapSys"));
        assert!(told(|s| s.heap_idle = u64::MAX).contains("are not HeapSys"));
        assert!(told(|s| s.heap_released = s.heap_idle + 1).contains("more than HeapIdle"));
        assert!(told(|s| s.sys = 5).contains("more than Sys"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            take_line(&mut MemStats::default(), &text);
            let _ = from_vars(&bytes[..]);
        }
    }
}
