//! Packages of other releases of the distribution, by an apt with sources and a state of its own: the system's are untouched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};

use crate::process;

/// What the indexes and with them the packages are verified by.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of the distribution's archives, as their own indexes call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    Main,
    Security,
}

impl Archive {
    fn label(self) -> &'static str {
        match self {
            Self::Main => "Debian",
            Self::Security => "Debian-Security",
        }
    }

    /// Where the system's own apt takes this archive from.
    fn mirror(self) -> Result<String> {
        let targets = process::stdout(process::tool("apt-get", "apt")?.args([
            "indextargets",
            "--format",
            "$(LABEL) $(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        mirror(&targets, self.label()).ok_or_else(|| {
            anyhow!(
                "this system's apt has no source of the archive {} that it has read: add one and run \
                 `apt-get update`",
                self.label()
            )
        })
    }
}

/// The address beside a label.
fn mirror(targets: &str, label: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let (of, address) = line.split_once(' ')?;
        (of == label).then(|| address.to_owned())
    })
}

/// One suite of an archive, with its index read.
pub struct Suite {
    name: &'static str,
    dir: PathBuf,
}

impl Suite {
    /// Reads the index; what apt keeps goes to `dir`.
    pub fn update(archive: Archive, name: &'static str, dir: &Path) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            return Err(anyhow!(
                "{KEYRING} is missing, by which packages are verified: apt-get install debian-archive-keyring"
            ));
        }
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            let folder = dir.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let source = format!(
            "deb [signed-by={KEYRING}] {} {name} main\n",
            archive.mirror()?
        );
        let suite = Self {
            name,
            dir: dir.to_path_buf(),
        };
        let file = suite.sources();
        fs::write(&file, source).with_context(|| format!("cannot write {}", file.display()))?;
        process::run(suite.apt("apt-get")?.args(["update", "--quiet=2"]))?;
        Ok(suite)
    }

    /// The package with the highest version in its name among those that a regular expression fits.
    pub fn newest(&self, pattern: &str) -> Result<String> {
        let found =
            process::stdout(
                self.apt("apt-cache")?
                    .args(["search", "--names-only", pattern]),
            )?;
        newest(&found).ok_or_else(|| anyhow!("{} has no package {pattern} any more", self.name))
    }

    /// Downloads a package, which apt verifies by the index: the file.
    pub fn download(&self, package: &str) -> Result<PathBuf> {
        let folder = self.dir.join("packages").join(package);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        process::run(self.apt("apt-get")?.current_dir(&folder).args([
            "download",
            "--quiet=2",
            package,
        ]))?;
        let mut files = fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .flatten();
        let file = files.next().map(|file| file.path());
        file.ok_or_else(|| anyhow!("apt-get has downloaded no file for {package}"))
    }

    fn sources(&self) -> PathBuf {
        self.dir.join("sources.list")
    }

    fn apt(&self, program: &str) -> Result<Command> {
        let mut command = process::tool(program, "apt")?;
        let dir = |name: &str| self.dir.join(name).display().to_string();
        let options = [
            ("Dir::Etc::SourceList", self.sources().display().to_string()),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::State", dir("state")),
            // Nothing is installed as far as this apt knows.
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache", dir("cache")),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            // Its own user may not be allowed to look into the checkout.
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        for (name, value) in options {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        Ok(command)
    }
}

/// Of lines as in "NAME - DESCRIPTION", the name with the highest numbers in it.
fn newest(found: &str) -> Option<String> {
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let newest = names.max_by_key(|name| numbers(name))?;
    Some(newest.to_owned())
}

/// The version in a name, without the architecture's number.
fn numbers(name: &str) -> Vec<u64> {
    let digits = name
        .trim_end_matches("amd64")
        .split(|char: char| !char.is_ascii_digit());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_package_has_the_highest_version_and_not_the_last_letter() {
        let found = "linux-image-6.12.9+deb12-cloud-amd64 - Linux\n\
                     linux-image-6.12.90+deb12.1-cloud-amd64 - Linux\n\
                     linux-image-6.12.90+deb12-cloud-amd64 - Linux\n";
        assert_eq!(
            newest(found).as_deref(),
            Some("linux-image-6.12.90+deb12.1-cloud-amd64")
        );
        assert_eq!(newest(""), None);
    }

    #[test]
    fn the_mirror_of_an_archive_is_not_that_of_another() {
        let targets = "Other http://other/\nDebian http://main/\nDebian-Security http://security/";
        assert_eq!(mirror(targets, "Debian").as_deref(), Some("http://main/"));
        assert_eq!(
            mirror(targets, "Debian-Security").as_deref(),
            Some("http://security/")
        );
        assert_eq!(mirror("", "Debian"), None);
    }
}
