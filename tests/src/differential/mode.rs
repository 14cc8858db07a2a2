//! The modes: what a random program is made of, how the machine is set, and how memtrace is run.

use super::settings::Sizes;
use super::step::{MADV_COLLAPSE, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE};

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    pub name: &'static str,
    /// Pages of the arena that it uses.
    pub pages: u64,
    pub sizes: Sizes,
    pub advice: &'static [i32],
    /// Which files and kinds of memory may be mapped.
    pub files: bool,
    pub shared: bool,
    pub moves: bool,
    /// mremap over several mappings, and holes.
    pub gaps: bool,
    pub forks: bool,
    pub locks: bool,
    pub protects: bool,
    pub heap: bool,
    pub kernel: bool,
    pub remote: bool,
    pub threads: bool,
    pub garbage: bool,
    pub steps: u64,
}

/// How memtrace is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub name: &'static str,
    pub attach: bool,
    pub exact_bytes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    pub mix: &'static Mix,
    pub way: &'static Way,
}

pub const WAYS: [Way; 4] = [
    way("launch", false, false),
    way("launch-exact", false, true),
    way("attach", true, false),
    way("attach-exact", true, true),
];

const fn way(name: &'static str, attach: bool, exact_bytes: bool) -> Way {
    Way {
        name,
        attach,
        exact_bytes,
    }
}

const GIVE_BACK: &[i32] = &[libc::MADV_DONTNEED, libc::MADV_FREE];
const OFFER: &[i32] = &[
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_FREE,
    libc::MADV_PAGEOUT,
    libc::MADV_COLD,
];
const HUGE: &[i32] = &[
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_PAGEOUT,
    libc::MADV_HUGEPAGE,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    MADV_COLLAPSE,
];
const ALL: &[i32] = &[
    libc::MADV_NORMAL,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
    libc::MADV_WILLNEED,
    libc::MADV_DONTNEED,
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_FREE,
    libc::MADV_REMOVE,
    libc::MADV_DONTFORK,
    libc::MADV_DOFORK,
    libc::MADV_MERGEABLE,
    libc::MADV_UNMERGEABLE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_DONTDUMP,
    libc::MADV_DODUMP,
    libc::MADV_WIPEONFORK,
    libc::MADV_KEEPONFORK,
    libc::MADV_COLD,
    libc::MADV_PAGEOUT,
    libc::MADV_PAGEOUT,
    libc::MADV_POPULATE_READ,
    libc::MADV_POPULATE_WRITE,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    77,
    -1,
];

const ANON: Mix = Mix {
    name: "anon",
    pages: 768,
    sizes: Sizes::Untouched,
    advice: GIVE_BACK,
    files: false,
    shared: false,
    moves: true,
    gaps: false,
    forks: false,
    locks: false,
    protects: false,
    heap: false,
    kernel: false,
    remote: false,
    threads: false,
    garbage: false,
    steps: 150,
};

pub const MIXES: [Mix; 19] = [
    ANON,
    Mix {
        name: "gaps",
        gaps: true,
        ..ANON
    },
    Mix {
        name: "offer",
        advice: OFFER,
        ..ANON
    },
    Mix {
        name: "advice",
        advice: ALL,
        ..ANON
    },
    Mix {
        name: "kernel",
        kernel: true,
        advice: OFFER,
        ..ANON
    },
    Mix {
        name: "unseen",
        remote: true,
        locks: true,
        advice: OFFER,
        ..ANON
    },
    Mix {
        name: "protect",
        protects: true,
        kernel: true,
        advice: OFFER,
        ..ANON
    },
    Mix {
        name: "heap",
        heap: true,
        ..ANON
    },
    Mix {
        name: "lock",
        locks: true,
        advice: &[
            libc::MADV_DONTNEED,
            libc::MADV_FREE,
            libc::MADV_PAGEOUT,
            MADV_DONTNEED_LOCKED,
            libc::MADV_POPULATE_WRITE,
            libc::MADV_POPULATE_READ,
        ],
        ..ANON
    },
    Mix {
        name: "file",
        files: true,
        advice: OFFER,
        ..ANON
    },
    Mix {
        name: "shared",
        shared: true,
        advice: &[
            libc::MADV_DONTNEED,
            libc::MADV_FREE,
            libc::MADV_PAGEOUT,
            libc::MADV_REMOVE,
        ],
        ..ANON
    },
    Mix {
        name: "fork",
        forks: true,
        advice: GIVE_BACK,
        ..ANON
    },
    Mix {
        name: "threads",
        threads: true,
        ..ANON
    },
    Mix {
        name: "garbage",
        garbage: true,
        advice: ALL,
        ..ANON
    },
    Mix {
        name: "thp",
        sizes: Sizes::Huge,
        pages: 2560,
        advice: HUGE,
        kernel: true,
        ..ANON
    },
    Mix {
        name: "thp-always",
        sizes: Sizes::HugeAlways,
        pages: 2560,
        advice: HUGE,
        ..ANON
    },
    Mix {
        name: "mthp64",
        sizes: Sizes::Folios(64),
        advice: HUGE,
        ..ANON
    },
    Mix {
        name: "mthp16",
        sizes: Sizes::Folios(16),
        advice: HUGE,
        ..ANON
    },
    Mix {
        name: "all",
        advice: ALL,
        files: true,
        shared: true,
        forks: true,
        locks: true,
        protects: true,
        heap: true,
        kernel: true,
        remote: true,
        garbage: true,
        gaps: true,
        steps: 250,
        ..ANON
    },
];

impl Mode {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let of = |way: &'static Way| MIXES.iter().map(move |mix| Self { mix, way });
        WAYS.iter().flat_map(of).collect()
    }

    /// By name, as `fork/attach`; all with a mix's name where no way is named.
    pub fn named(name: &str) -> Vec<Self> {
        let is =
            |mode: &Self| name == mode.name() || name == mode.mix.name || name == mode.way.name;
        Self::all().into_iter().filter(is).collect()
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.mix.name, self.way.name)
    }
}
