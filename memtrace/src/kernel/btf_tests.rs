//! Tests of the BTF reader: built by hand, made to break it, and the running kernel's.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::proc::not_run;

/// Writes BTF.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        u32::try_from(at).unwrap()
    }

    fn add(
        &mut self,
        name: &str,
        kind: u32,
        bit_fields: bool,
        third: u32,
        body: &[(&str, u32, u32)],
    ) {
        let name = self.string(name);
        let info = kind << 24 | u32::from(bit_fields) << 31 | u32::try_from(body.len()).unwrap();
        for word in [name, info, third] {
            self.types.extend(word.to_le_bytes());
        }
        for &(member, of, offset) in body {
            let member = self.string(member);
            for word in [member, of, offset] {
                self.types.extend(word.to_le_bytes());
            }
        }
    }

    fn build(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len()).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}

fn sample() -> Vec<u8> {
    let mut b = Builder::new();
    // 1: an unnamed union; 2: const of it; 3: the structure around it.
    b.add("", kind::UNION, false, 8, &[("low", 9, 0), ("high", 9, 32)]);
    b.add("", kind::CONST, false, 1, &[]);
    b.add(
        "outer",
        kind::STRUCT,
        true,
        32,
        &[
            ("first", 9, 0),
            ("", 2, 64),
            ("flag", 9, 1 << 24 | 128),
            ("last", 9, 192),
        ],
    );
    // 4: the same name with other members, as happens when two files define it differently.
    b.add(
        "outer",
        kind::STRUCT,
        false,
        8,
        &[("first", 9, 320), ("other", 9, 8)],
    );
    b.build()
}

#[test]
fn members_are_found_also_inside_unnamed_unions() {
    let btf = Btf::parse(sample()).unwrap();
    let offsets = btf.member_offsets(&[
        ("outer", "first"),
        ("outer", "low"),
        ("outer", "high"),
        ("outer", "last"),
        ("outer", "other"),
        ("outer", "missing"),
        ("oute", "first"),
        ("outer", "fir"),
    ]);
    assert_eq!(
        offsets,
        [
            Some(0),
            Some(8),
            Some(12),
            Some(24),
            Some(1),
            None,
            None,
            None
        ]
    );
}

#[test]
fn a_bit_field_has_no_offset_in_bytes() {
    let btf = Btf::parse(sample()).unwrap();
    assert_eq!(btf.member_offset("outer", "flag"), None);
}

#[test]
fn unnamed_types_that_hold_each_other_do_not_hang() {
    let mut b = Builder::new();
    let many: Vec<_> = (0..100).map(|_| ("", 1, 0)).collect();
    b.add("ring", kind::STRUCT, false, 8, &many);
    b.add("", kind::CONST, false, 2, &[]);
    b.add(
        "to_self",
        kind::STRUCT,
        false,
        8,
        &[("", 2, 0), ("after", 9, 64)],
    );
    let btf = Btf::parse(b.build()).unwrap();
    // Without a bound this would look at 100 to the 16th members.
    assert_eq!(btf.member_offset("ring", "nothing"), None);
    assert_eq!(btf.member_offset("to_self", "after"), Some(8));
}

#[test]
fn offsets_that_overflow_are_none() {
    let mut b = Builder::new();
    b.add("", kind::STRUCT, false, 8, &[("deep", 9, u32::MAX - 7)]);
    b.add("outer", kind::STRUCT, false, 8, &[("", 1, 64)]);
    let btf = Btf::parse(b.build()).unwrap();
    assert_eq!(btf.member_offset("outer", "deep"), None);
}

#[test]
fn btf_cut_anywhere_is_refused_or_survived() {
    let whole = sample();
    for end in 0..whole.len() {
        if let Some(btf) = Btf::parse(whole[..end].to_vec()) {
            btf.member_offset("outer", "high");
        }
    }
}

#[test]
fn an_unknown_kind_or_version_is_refused() {
    let mut b = Builder::new();
    b.add("new", 31, false, 0, &[]);
    assert!(Btf::parse(b.build()).is_none());
    let mut other = sample();
    other[2] = 2;
    assert!(Btf::parse(other).is_none());
    assert!(Btf::parse(Vec::new()).is_none());
}

/// What this thread has used of a processor: other tests beside this one do not count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is valid for the call, and only written.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn the_running_kernels_offsets_are_plausible_and_quick_to_find() {
    if !crate::kernel::has_btf() {
        return not_run(
            "this kernel shows no BTF",
            "run on a kernel with CONFIG_DEBUG_INFO_BTF",
        );
    }
    let began = cpu_time();
    let offsets = Btf::of_kernel().unwrap().member_offsets(&[
        ("task_struct", "signal"),
        ("signal_struct", "live"),
        ("task_struct", "exit_code"),
        ("mm_struct", "rss_stat"),
        ("task_struct", "no_such_member"),
    ]);
    let took = cpu_time() - began;
    println!("{offsets:?} in {took:?}");
    let plausible =
        |offset: Option<u32>, max| offset.is_some_and(|o| o > 0 && o < max && o % 4 == 0);
    assert!(plausible(offsets[0], 16384) && offsets[0].unwrap().is_multiple_of(8));
    assert!(plausible(offsets[1], 256));
    assert!(plausible(offsets[2], 16384));
    assert!(plausible(offsets[3], 8192));
    assert_eq!(offsets[4], None);
    // 30 ms is the aim in a release build.
    assert!(took < Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 60 }));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), real in any::<bool>()) {
        if real && bytes.len() > 4 {
            bytes[..4].copy_from_slice(&[0x9f, 0xeb, 1, 0]);
        }
        if let Some(btf) = Btf::parse(bytes) {
            btf.member_offset("a", "b");
        }
    }

    #[test]
    fn good_btf_with_bytes_changed_is_survived(changes in proptest::collection::vec((0usize..400, any::<u8>()), 1..20)) {
        let mut bytes = sample();
        for (at, byte) in changes {
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
        }
        if let Some(btf) = Btf::parse(bytes) {
            btf.member_offsets(&[("outer", "first"), ("outer", "high"), ("outer", "missing")]);
        }
    }
}
