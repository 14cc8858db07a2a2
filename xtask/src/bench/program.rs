//! Where a program is that the benchmark starts, if it is installed.
use std::env;
use std::path::{Path, PathBuf};

/// A program's path, also where servers are, which a plain user's PATH may lack.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}
