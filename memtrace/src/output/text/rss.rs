//! The summary's lines on RSS: what it is made of, what became of MADV_FREE, and why other figures differ.

use crate::ledger::event::Cgroup;
use crate::ledger::totals::Basis;
use crate::output::escape::escape;
use crate::units::{Bytes, Nanos};
use crate::view::Summary;
use crate::view::balance::Balance;

/// A sample younger than this is as good as one of the end.
const STALE_NS: u64 = 100_000_000;
/// The longest path of a cgroup that is shown: container runtimes use long ones.
const PATH_COLUMNS: usize = 100;

/// RSS with its parts, the balance of MADV_FREE, and the other figures that people compare.
pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(resident(summary));
    lines.extend(parts(summary));
    if let Some(balance) = &summary.balance {
        lines.extend(self::balance(balance));
        lines.extend(uncounted(balance, summary.reclaim_unknown.as_deref()));
    }
    lines.extend(unfaulted(summary));
    lines.extend(others(summary));
    lines
}

fn resident(summary: &Summary) -> Option<String> {
    let rss = &summary.rss;
    let others: Vec<String> = [("start", rss.start_bytes), ("sampled peak", rss.peak_bytes)]
        .into_iter()
        .filter_map(|(name, bytes)| Some(format!("{name} {}", Bytes(bytes?))))
        .collect();
    let mut line = format!(
        "RSS {}{}",
        Bytes(rss.last_bytes?),
        moment(summary.rss_age_ns)
    );
    if !others.is_empty() {
        line += &format!(" ({})", others.join(", "));
    }
    Some(line)
}

/// ` at the end`, or how long before it.
fn moment(age_ns: Option<u64>) -> String {
    match age_ns {
        None | Some(..STALE_NS) => " at the end".to_owned(),
        Some(age) => format!(", read {} before the end", Nanos(age)),
    }
}

/// What that RSS is made of, by the last look at smaps_rollup.
fn parts(summary: &Summary) -> Option<String> {
    let rollup = summary.rss.last_rollup?;
    let effective = rollup.rss_bytes.saturating_sub(rollup.lazyfree_bytes);
    let moment = match summary.lazyfree_age_ns() {
        Some(age) if age >= STALE_NS => format!(", {} before the end", Nanos(age)),
        _ => String::new(),
    };
    if rollup.lazyfree_bytes == 0 {
        return Some(format!(
            "    nothing of it was lazily free (sampled: one look at smaps_rollup{moment})"
        ));
    }
    Some(format!(
        "    = effective {} + lazily free {} (sampled: one look at smaps_rollup{moment})",
        Bytes(effective),
        Bytes(rollup.lazyfree_bytes),
    ))
}

/// `MADV_FREE marked ≤393M: ...`, and what became of it, each part with how it is known.
fn balance(balance: &Balance) -> [String; 2] {
    let known = |bytes: Option<u64>| match bytes {
        Some(bytes) => Bytes(bytes).to_string(),
        None => "?".to_owned(),
    };
    let bound = match (balance.reclaimed_bytes, balance.reclaimed_basis) {
        (Some(_), Basis::LowerBound) => "≥",
        (Some(1..), Basis::UpperBound) => "≤",
        _ => "",
    };
    let still_lazy = match balance.still_lazy_bytes {
        Some(0) => "0B (sampled)".to_owned(),
        Some(bytes) => format!(
            "{} ±{} (sampled)",
            Bytes(bytes),
            Bytes(balance.still_lazy_error_bytes)
        ),
        None => "? (nobody looked)".to_owned(),
    };
    let before = match balance.before_bytes {
        Some(0) | None => String::new(),
        Some(bytes) => format!(", {} of it before the trace", Bytes(bytes)),
    };
    let exact = match (balance.reclaimed_bytes, balance.reclaimed_basis) {
        (Some(_), Basis::Exact) => "exact",
        (Some(_), Basis::Measured) => "measured",
        (Some(_), _) => "counted",
        (None, _) => "not counted",
    };
    [
        format!(
            "MADV_FREE marked ≤{} (derived{before}): still lazy {still_lazy}",
            Bytes(balance.marked_bytes),
        ),
        format!(
            "    taken by the kernel {bound}{} ({exact}), reused silently {}, dropped while lazy {}",
            known(balance.reclaimed_bytes),
            match balance.reused_silently_bytes {
                Some(0) => "0B (derived)".to_owned(),
                Some(bytes) => format!("≤{} (derived)", Bytes(bytes)),
                None => "?".to_owned(),
            },
            match balance.dropped_bytes {
                0 => "0B".to_owned(),
                bytes => format!("≤{}", Bytes(bytes)),
            },
        ),
    ]
}

/// The bounds of what the kernel took, where it was not counted or not from the first.
fn uncounted(balance: &Balance, why: Option<&str>) -> Option<String> {
    let counted = balance.reclaimed_bytes.is_some() && balance.reclaimed_basis != Basis::LowerBound;
    if counted {
        return None;
    }
    let least = Bytes(balance.reclaimed_at_least_bytes);
    let most = match balance.reclaimed_at_most_bytes {
        Some(most) => format!(
            "at most {} (what the whole machine lost of it meanwhile)",
            Bytes(most)
        ),
        None => "how much at the most is not known".to_owned(),
    };
    let why = match (balance.reclaimed_bytes, why) {
        (None, Some(why)) => format!("was not counted ({why})"),
        (None, None) => "was not counted".to_owned(),
        (Some(_), _) => "was counted from after the first MADV_FREE on".to_owned(),
    };
    Some(format!(
        "    what the kernel took {why}: at least {least} (refaults and counts prove it), {most}"
    ))
}

fn unfaulted(summary: &Summary) -> Option<String> {
    let bytes = summary.totals.unfaulted_bytes?;
    (bytes > 0).then(|| {
        format!(
            "{} came without a page fault (measured): populated ahead, by huge pages, or by direct IO",
            Bytes(bytes)
        )
    })
}

/// The other figures, each with why it differs.
fn others(summary: &Summary) -> Vec<String> {
    let rss = &summary.rss;
    let mut lines = Vec::new();
    if let Some(bytes) = rss.virtual_bytes {
        lines.push(format!(
            "VSZ {}: all that is mapped, touched or not",
            Bytes(bytes)
        ));
    }
    if let Some(rollup) = rss.last_rollup {
        lines.push(format!(
            "PSS {}: pages that other processes map too count in part",
            Bytes(rollup.pss_bytes)
        ));
        if rollup.swap_bytes > 0 {
            lines.push(format!(
                "swap {}: not in RSS, until it is touched",
                Bytes(rollup.swap_bytes)
            ));
        }
    }
    if let Some(cgroup) = &rss.cgroup {
        lines.extend(self::cgroup(cgroup));
    }
    lines
}

fn cgroup(cgroup: &Cgroup) -> [String; 2] {
    let limit = match cgroup.limit_bytes {
        Some(limit) => format!(" of {}", Bytes(limit)),
        None => String::new(),
    };
    [
        format!(
            "cgroup v{} {}: usage {}{limit}, all of its processes and their page cache",
            cgroup.version,
            escape(&cgroup.path, PATH_COLUMNS),
            Bytes(cgroup.usage_bytes),
        ),
        format!(
            "working set {}: that usage less {} inactive file memory, where lazily freed memory lies too",
            Bytes(cgroup.working_set_bytes()),
            Bytes(cgroup.inactive_file_bytes),
        ),
    ]
}
