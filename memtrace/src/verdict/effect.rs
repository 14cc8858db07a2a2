//! Whether a runtime gives back as it is set to: its settings against the calls that were seen.

use crate::ledger::advice::{Advice, GiveBack};
use crate::ledger::totals::Totals;
use crate::runtime::{GivesBack, Kind, Runtime};
use crate::units::counted;

/// One sentence for each runtime whose settings decide by which advice it gives back.
pub fn effects(runtimes: &[Runtime], totals: &Totals) -> Vec<String> {
    runtimes
        .iter()
        .filter_map(|runtime| effect(runtime, runtimes, totals))
        .collect()
}

fn effect(runtime: &Runtime, all: &[Runtime], totals: &Totals) -> Option<String> {
    if !matches!(runtime.kind, Kind::Go | Kind::Jemalloc) {
        return None;
    }
    let calls = |how| -> u64 {
        totals
            .advice
            .iter()
            .filter(|(advice, _)| advice.give_back() == Some(how))
            .map(|(_, totals)| totals.calls)
            .sum()
    };
    let (mut free, dontneed) = (calls(GiveBack::Free), calls(GiveBack::DontNeed));
    // It tries at its start whether the kernel takes the advice (src/pages.c:pages_boot).
    if runtime.kind == Kind::Jemalloc && free == 1 {
        free = 0;
    }
    let said = said(runtime);
    let free_calls = counted(free, &format!("{} call", Advice::FREE));
    let dontneed_calls = counted(dontneed, &format!("{} call", Advice::DONTNEED));
    // Threads' stacks are dropped by the C library, so a few DONTNEED calls prove nothing.
    let text = match runtime.gives_back {
        GivesBack::Unknown => return None,
        _ if free + dontneed == 0 => {
            format!("{said}: nothing was given back while traced, so that its effect was not seen")
        }
        GivesBack::DontNeed if free > 0 => {
            format!("{said}, yet {free_calls} were seen{}", others(runtime, all))
                .replace("call were", "call was")
        }
        GivesBack::DontNeed => {
            format!(
                "{said}, and so it is: {dontneed_calls} and no {} were seen",
                Advice::FREE
            )
        }
        GivesBack::Free if free > 0 => {
            format!("{said}, and so it is: {free_calls} were seen").replace("call were", "call was")
        }
        GivesBack::Free => format!("{said}, yet no {} was seen", Advice::FREE),
        GivesBack::Both => format!("{said}: {free_calls} and {dontneed_calls} were seen"),
        GivesBack::Never if free > 0 => {
            format!("{said}, yet {free_calls} were seen{}", others(runtime, all))
        }
        GivesBack::Never => return None,
    };
    Some(text)
}

/// What decides: the setting, or else the version's own way.
fn said(runtime: &Runtime) -> String {
    let name = runtime.kind.name();
    let version = runtime.version.as_deref().unwrap_or("");
    let who = format!("{name} {version}").trim_end().to_owned();
    let how = match runtime.gives_back {
        GivesBack::Free => "gives back by MADV_FREE",
        GivesBack::DontNeed => "gives back by MADV_DONTNEED",
        GivesBack::Both => "gives back by MADV_FREE first and MADV_DONTNEED later",
        GivesBack::Never => "never gives back",
        GivesBack::Unknown => "gives back in a way that is not known",
    };
    let deciding: Vec<String> = runtime
        .settings
        .iter()
        .filter(|setting| decides(runtime.kind, &setting.value))
        .map(ToString::to_string)
        .collect();
    match deciding.last() {
        Some(setting) => format!("{setting} is set, with which {who} {how}"),
        None => format!("{who} {how} by default"),
    }
}

/// True for a setting that decides about the advice.
fn decides(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Go => value.contains("madvdontneed"),
        _ => value.contains("decay_ms"),
    }
}

/// Who else in the process may have called.
fn others(runtime: &Runtime, all: &[Runtime]) -> String {
    let names: Vec<&str> = all
        .iter()
        .filter(|other| {
            other.kind != runtime.kind
                && !matches!(other.gives_back, GivesBack::DontNeed | GivesBack::Never)
        })
        .map(|other| other.kind.name())
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" (there is {} in the process too)", names.join(" and "))
    }
}
