//! Writes the archive that a kernel unpacks as its first root: cpio in the "newc" form
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
/// Files begin at multiples of it, and so do archives that follow each other.
const ALIGNMENT: usize = 4;

/// An archive in memory.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// A file that may be run, with the directories above it.
    pub fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        let name = self.parents(path)?;
        self.entry(&name, PROGRAM, (0, 0), content)
    }

    /// A device by its major and minor number.
    pub fn device(&mut self, path: &Path, number: (u32, u32)) -> Result<()> {
        let name = self.parents(path)?;
        self.entry(&name, CHARACTER_DEVICE, number, &[])
    }

    pub fn directory(&mut self, path: &Path) -> Result<()> {
        let name = self.parents(path)?;
        self.directory_once(name)
    }

    /// The whole archive; another may follow it.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    /// Adds the directories above a path; the path as the archive names it.
    fn parents(&mut self, path: &Path) -> Result<String> {
        let name = path.strip_prefix("/").unwrap_or(path);
        let name = name
            .to_str()
            .with_context(|| format!("{} is not UTF-8", path.display()))?;
        for (end, _) in name.match_indices('/') {
            self.directory_once(name[..end].to_owned())?;
        }
        Ok(name.to_owned())
    }

    fn directory_once(&mut self, name: String) -> Result<()> {
        if self.directories.contains(&name) {
            return Ok(());
        }
        self.entry(&name, DIRECTORY, (0, 0), &[])?;
        self.directories.insert(name);
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len())
            .with_context(|| format!("{name} is larger than such an archive can hold"))?;
        self.entries += 1;
        let (major, minor) = device;
        let fields = [
            self.entries, // inode
            mode,
            0, // user
            0, // group
            1, // links
            0, // modification time
            size,
            0, // the device that it is on: major
            0, // and minor
            major,
            minor,
            name.len() as u32 + 1,
            0, // checksum, not used by this form
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        let end = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, modes and sizes, read back by the form's own rules.
    fn read_back(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let at = 6 + 8 * index;
                let text = std::str::from_utf8(&bytes[at..at + 8]).expect("ASCII");
                usize::from_str_radix(text, 16).expect("hexadecimal")
            };
            let (mode, size, name_len) = (field(1), field(6), field(11));
            let name = String::from_utf8(bytes[110..110 + name_len - 1].to_vec());
            let content = (110 + name_len).next_multiple_of(4);
            let end = (content + size).next_multiple_of(4);
            entries.push((
                name.expect("UTF-8"),
                mode as u32,
                bytes[content..content + size].to_vec(),
            ));
            bytes = &bytes[end..];
        }
        entries
    }

    #[test]
    fn files_come_after_the_directories_above_them_and_each_directory_once() {
        let mut archive = Archive::default();
        archive
            .file(Path::new("/a/b/c"), b"12345")
            .expect("it fits");
        archive.file(Path::new("/a/d"), b"").expect("it fits");
        archive.directory(Path::new("/a")).expect("it fits");
        archive
            .device(Path::new("/dev/console"), (5, 1))
            .expect("it fits");
        let entries = read_back(&archive.finish().expect("it fits"));
        let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "a",
                "a/b",
                "a/b/c",
                "a/d",
                "dev",
                "dev/console",
                "TRAILER!!!"
            ]
        );
        assert_eq!(entries[2], ("a/b/c".to_owned(), PROGRAM, b"12345".to_vec()));
        assert_eq!(entries[5].1, CHARACTER_DEVICE);
    }
}
