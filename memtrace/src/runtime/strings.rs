//! Looks through the constants of a file for the strings that only an allocator itself has, stripped or not.

use memchr::memmem::Finder;

use super::elf::{Elf, ReadAt};

/// How much of the text around a hit can be seen.
const BEFORE: usize = 64;
const AFTER: usize = 192;
/// Enough that every hit is seen once with both.
const OVERLAP: usize = BEFORE + AFTER;

/// Each of jemalloc's messages begins in the same way (jemalloc/src/jemalloc.c), and it has dozens. A tool
/// that knows how one looks has fewer.
const JEMALLOC_MESSAGES: u32 = 4;

/// What the constants of one file say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// It contains jemalloc.
    pub(super) jemalloc: bool,
    /// The prefix that jemalloc's functions have here, as the name of its configuration file shows.
    pub(super) prefix: Option<String>,
    pub(super) mimalloc: bool,
    pub(super) tcmalloc: bool,
    /// It contains glibc's allocator.
    pub(super) glibc: bool,
}

/// Looks for every allocator in one pass: all their marks have `malloc` in them, which is rare enough.
pub(super) fn marks<F: ReadAt>(elf: &Elf<'_, F>) -> Marks {
    let mut marks = Marks::default();
    let mut messages = 0;
    visit(elf, b"malloc", |before, after| {
        if before.ends_with(b"<je") {
            messages += u32::from(after.starts_with(b"malloc>: "));
        } else if before.ends_with(b"mi") {
            // mimalloc/src/options.c: _mi_error_message, _mi_warning_message.
            marks.mimalloc |= after.starts_with(b"malloc: error: ");
        } else if before.ends_with(b"tc") {
            // The name of a property that both tcmallocs answer to (gperftools/src/tcmalloc.cc:GetNumericProperty).
            marks.tcmalloc |= after.starts_with(b"malloc.max_total_thread_cache_bytes");
        } else if before.ends_with(b"\0") && after.starts_with(b"malloc(): ") {
            // glibc/malloc/malloc.c: malloc_printerr.
            marks.glibc = true;
        } else if after.starts_with(b"malloc.conf\0") {
            // jemalloc/src/jemalloc.c, obtain_malloc_conf: "/etc/" JEMALLOC_PREFIX "malloc.conf".
            if let Some(prefix) = configuration_prefix(before) {
                marks.prefix = Some(prefix);
            }
        }
        true
    });
    marks.jemalloc = messages >= JEMALLOC_MESSAGES;
    marks
}

fn configuration_prefix(before: &[u8]) -> Option<String> {
    let start = memchr::memmem::rfind(before, b"/etc/")? + b"/etc/".len();
    let prefix = std::str::from_utf8(&before[start..]).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    prefix.chars().all(plain).then(|| prefix.to_owned())
}

/// The first answer of `accept`, which is given the text before each place of the needle and the text from there on.
pub(super) fn find<F: ReadAt, T>(
    elf: &Elf<'_, F>,
    needle: &[u8],
    mut accept: impl FnMut(&[u8], &[u8]) -> Option<T>,
) -> Option<T> {
    let mut found = None;
    visit(elf, needle, |before, after| {
        found = accept(before, after);
        found.is_none()
    });
    found
}

/// Whether the constants have this string.
pub(super) fn contains<F: ReadAt>(elf: &Elf<'_, F>, needle: &[u8]) -> bool {
    find(elf, needle, |_, _| Some(())).is_some()
}

/// Calls `each` for every place of the needle, some perhaps twice; `each` says whether to go on.
fn visit<F: ReadAt>(elf: &Elf<'_, F>, needle: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) {
    let finder = Finder::new(needle);
    for place in elf.constants() {
        let mut stop = false;
        elf.chunks(&place, OVERLAP, |chunk| {
            for at in finder.find_iter(chunk) {
                let before = &chunk[at.saturating_sub(BEFORE)..at];
                let after = &chunk[at..chunk.len().min(at + AFTER)];
                stop = !elf.budget().take_records(1) || !each(before, after);
                if stop {
                    break;
                }
            }
            !stop
        });
        if stop || !elf.budget().goes_on() {
            return;
        }
    }
}

/// The text up to the NUL that ends it; `None` if it does not end in sight or is not plain ASCII.
pub(super) fn until_nul(text: &[u8]) -> Option<&str> {
    let end = text.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&text[..end])
        .ok()
        .filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
}

/// A version at the start of a text: at least two numbers with dots between them.
pub(super) fn version(text: &str) -> Option<&str> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit() && byte != b'.')
        .unwrap_or(text.len());
    let version = text[..end].trim_end_matches('.');
    let numbers = version.split('.');
    (numbers.clone().count() >= 2 && numbers.clone().all(|number| !number.is_empty()))
        .then_some(version)
}

#[cfg(test)]
#[path = "strings_tests.rs"]
mod tests;
