//! The compiler and the libraries that bpf-linker is linked with: each is tried, and each that is missing named.

use std::path::Path;
use std::process::{Command, Stdio};

use super::llvm::Llvm;
use super::missing::Missing;

/// What LLVM's own libraries are linked with, and Debian's package with it.
const LINKED: [(&str, &str); 3] = [
    ("stdc++", "g++"),
    ("z", "zlib1g-dev"),
    ("zstd", "libzstd-dev"),
];

/// Everything that is not there; `scratch` is a folder to try it in.
pub fn missing(llvm: &Llvm, scratch: &Path) -> Vec<Missing> {
    let out = scratch.join("links");
    let polly = format!("libpolly-{}-dev", llvm.version.major);
    let has_polly = llvm.prefix.join("lib/libPolly.a").is_file();
    let mut missing = Vec::new();
    if !has_polly {
        missing.push(library("Polly", &polly));
    }
    if !links(&out, &[]) {
        missing.push(Missing {
            what: "a C compiler that links, which Rust calls cc".to_owned(),
            seen: Vec::new(),
            get: vec!["apt-get install gcc libc6-dev   (Debian)".to_owned()],
        });
        // Without it nothing can be told of the others.
        return missing;
    }
    let unlinked = LINKED
        .iter()
        .filter(|(name, _)| !links(&out, &[&format!("-l{name}")]));
    missing.extend(unlinked.map(|(name, package)| library(name, package)));
    missing
}

fn library(name: &str, package: &str) -> Missing {
    Missing {
        what: format!("the library {name} with what linking to it needs, for bpf-linker"),
        seen: Vec::new(),
        get: vec![format!("apt-get install {package}   (Debian)")],
    }
}

/// Whether an empty library can be linked with these flags; `out` is overwritten.
fn links(out: &Path, flags: &[&str]) -> bool {
    let status = Command::new("cc")
        .args(["-shared", "-x", "c", "/dev/null", "-o"])
        .arg(out)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_link_is_told_from_what_does() {
        let out = std::env::temp_dir().join(format!("memtrace-links-{}", std::process::id()));
        assert!(links(&out, &[]) && links(&out, &["-lc"]));
        assert!(!links(&out, &["-lmemtrace_no_such_library"]));
        assert!(!links(&out.join("no such folder"), &[]));
        // The linker takes away what it could not finish.
        let _ = std::fs::remove_file(out);
    }
}
