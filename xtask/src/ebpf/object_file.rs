//! What must hold for any eBPF object that is committed.
use std::path::Path;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};

/// The licence that the kernel asks for: GPL-only helpers refuse any other.
pub const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// Where systems keep what is built and what builds it: the names that the folders are remapped to
/// are relative, so that no path through one of these remains.
const TOP_FOLDERS: [&str; 8] = ["home", "root", "usr", "tmp", "opt", "var", "mnt", "build"];
/// Other parts of paths that would tell.
const PARTS: [&str; 2] = [".cargo/", "registry/src"];

/// What is wrong with the object, one sentence each; nothing when it can be committed.
///
/// `folders` are those that it may have been built in, whatever they are called.
pub fn faults(bytes: &[u8], folders: &[&Path]) -> Result<Vec<String>> {
    let file = object::File::parse(bytes).context("the object is not an ELF file")?;
    let mut faults = Vec::new();
    for name in [".BTF", ".BTF.ext"] {
        if file.section_by_name(name).is_none() {
            faults.push(format!("it has no section {name}"));
        }
    }
    for section in file.sections() {
        let name = section.name().context("a section's name is not UTF-8")?;
        if name.contains(".debug_") {
            faults.push(format!("it still has the section {name}"));
        }
    }
    match file.section_by_name("license") {
        Some(section) if section.data()? == LICENSE => {}
        Some(section) => faults.push(format!(
            "its license is \"{}\", not \"Dual MIT/GPL\"",
            String::from_utf8_lossy(section.data()?).trim_end_matches('\0')
        )),
        None => faults.push("it has no license section".to_owned()),
    }
    let top = TOP_FOLDERS.iter().map(|name| format!("/{name}/"));
    let mut parts = top.chain(PARTS.map(str::to_owned));
    let fixed = parts.find_map(|part| find(bytes, part.as_bytes()));
    let folder = folders.iter().find_map(|folder| find_folder(bytes, folder));
    for at in fixed.into_iter().chain(folder) {
        let text = text_at(bytes, at);
        faults.push(format!("it holds the path of a build folder, {text}"));
    }
    if let Some(btf) = file.section_by_name(".BTF") {
        // The strings of BTF end with a zero byte each, so one that starts with a slash is a path.
        let data = btf.data()?;
        let mut starts = data.windows(3).enumerate();
        let absolute = |it: &[u8]| it[0] == 0 && it[1] == b'/' && it[2].is_ascii_lowercase();
        if let Some((at, _)) = starts.find(|(_, window)| absolute(window)) {
            faults.push(format!(
                "its BTF holds the absolute path {}",
                text_at(data, at + 1)
            ));
        }
    }
    Ok(faults)
}

/// The text that starts at `at`, as far as it is one, for a message.
fn text_at(bytes: &[u8], at: usize) -> String {
    let end = bytes.len().min(at + 80);
    let text = String::from_utf8_lossy(&bytes[at..end]);
    text.split(char::is_control)
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// A checkout may well be in /src, which many a relative path contains.
fn find_folder(bytes: &[u8], folder: &Path) -> Option<usize> {
    let inside = [folder.as_os_str().as_encoded_bytes(), b"/"].concat();
    let starts = |at: usize| at == 0 || !is_part_of_a_name(bytes[at - 1]);
    let mut windows = bytes.windows(inside.len()).enumerate();
    let (at, _) = windows.find(|(at, window)| *window == inside && starts(*at))?;
    Some(at)
}

fn is_part_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_found_at_the_start_of_a_path_only() {
        let at = |text: &str| find_folder(text.as_bytes(), Path::new("/src"));
        assert_eq!(at("core-0.0.0/src/ptr.rs"), None);
        assert_eq!(at("\0/srcs/lib.rs"), None);
        assert_eq!(at("\0/src/lib.rs"), Some(1));
    }
}
