//! The words for fault classes and mappings, shared by the stream and the summary.

use crate::ledger::event::{Lost, Mapping, MappingKind};
use crate::ledger::totals::FaultClass;
use crate::output::escape::escape;
use crate::units::counted;

/// The longest name of a mapping that is shown.
const NAME_COLUMNS: usize = 24;
/// The longest name of a process: the kernel's is at most 15 bytes, of which each may be escaped.
const COMM_COLUMNS: usize = 32;

/// A class of faults, in words.
pub(super) fn class(class: FaultClass) -> &'static str {
    match class {
        FaultClass::FirstTouch => "first touch",
        FaultClass::RefaultDontneed => "refault DONTNEED",
        FaultClass::RefaultFree => "refault FREE",
        FaultClass::RefaultOther => "refault other",
        FaultClass::Cow => "copy-on-write",
        FaultClass::SwapIn => "swap-in",
        FaultClass::File => "file",
        FaultClass::Unknown => "unknown",
    }
}

/// A mapping by its kind and name: `anon`, `shared file data.db`.
pub(super) fn mapping(mapping: &Mapping) -> String {
    let shared = if mapping.shared { "shared " } else { "" };
    match &mapping.name {
        None => format!("{shared}{}", mapping.kind.name()),
        Some(name) => {
            let name = name_of(mapping.kind, name);
            format!("{shared}{} {name}", mapping.kind.name())
        }
    }
}

/// The last part of a file's path, or an anonymous mapping's name as it is.
fn name_of(kind: MappingKind, name: &str) -> String {
    let short = match kind {
        MappingKind::File => name.rsplit('/').next().unwrap_or(name),
        _ => name,
    };
    escape(short, NAME_COLUMNS)
}

/// The name of a process.
pub(super) fn comm(comm: &str) -> String {
    escape(comm, COMM_COLUMNS)
}

/// Joins with commas and a last "and".
pub(super) fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// What was lost, in words; None where nothing was.
pub(super) fn lost(lost: &Lost) -> Option<String> {
    let parts: Vec<String> = [
        (lost.calls, "call"),
        (lost.faults, "fault"),
        (lost.lifecycle, "fork, exec or exit event"),
        (lost.populated, "measurement"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, one)| counted(count, one))
    .collect();
    (!parts.is_empty()).then(|| listed(&parts))
}

#[cfg(test)]
mod tests {
    use crate::ledger::event::VmFlags;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_mapping_is_named_by_its_kind_and_the_end_of_its_path() {
        let named = |kind, shared, name: Option<&str>| {
            mapping(&Mapping {
                kind,
                shared,
                flags: VmFlags::default(),
                name: name.map(Arc::from),
            })
        };
        assert_eq!(named(MappingKind::Anon, false, None), "anon");
        assert_eq!(
            named(MappingKind::File, false, Some("/usr/lib/libc.so.6")),
            "file libc.so.6"
        );
        assert_eq!(
            named(MappingKind::File, true, Some("/tmp/x\x1b[2J")),
            r"shared file x\u{1b}[2J"
        );
        assert_eq!(
            named(MappingKind::Anon, false, Some("Go: heap/arena")),
            "anon Go: heap/arena"
        );
        let long = format!("/tmp/{}", "x".repeat(300));
        let shown = named(MappingKind::File, false, Some(&long));
        assert_eq!(shown.chars().count(), "file ".len() + NAME_COLUMNS);
        assert!(shown.ends_with("x…"));
    }

    #[test]
    fn what_was_lost_is_counted_in_words() {
        let of = |calls, faults, lifecycle| {
            lost(&Lost {
                at_ns: 0,
                calls,
                faults,
                lifecycle,
                populated: 0,
            })
        };
        assert_eq!(of(0, 0, 0), None);
        assert_eq!(of(1, 0, 0).as_deref(), Some("1 call"));
        assert_eq!(of(2, 3004, 0).as_deref(), Some("2 calls and 3,004 faults"));
        assert_eq!(
            of(2, 1, 5).as_deref(),
            Some("2 calls, 1 fault and 5 fork, exec or exit events")
        );
    }
}
