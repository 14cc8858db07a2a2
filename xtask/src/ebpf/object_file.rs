//! What must hold for any eBPF object that is committed.
use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};

/// The licence that the kernel asks for: GPL-only helpers refuse any other.
pub const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// Starts of absolute paths that would tell where the object was built.
///
/// The names that the folders are remapped to are relative, so no absolute path remains at all.
const PATHS: [&str; 10] = [
    "/home/",
    "/root/",
    "/usr/",
    "/tmp/",
    "/work",
    "/opt/",
    "/var/",
    "/mnt/",
    "/build/",
    ".cargo/registry",
];

/// What is wrong with the object, one sentence each; nothing when it can be committed.
pub fn faults(bytes: &[u8]) -> Result<Vec<String>> {
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
    for path in PATHS {
        if let Some(at) = find(bytes, path.as_bytes()) {
            let end = bytes.len().min(at + 80);
            let text = String::from_utf8_lossy(&bytes[at..end]);
            let text = text.split(char::is_control).next().unwrap_or_default();
            faults.push(format!("it holds the path of a build folder, {text}"));
        }
    }
    Ok(faults)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}
