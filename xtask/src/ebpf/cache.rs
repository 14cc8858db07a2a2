//! What an earlier eBPF build has left under target/, and when that must not be used again.
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::recipe;
use super::toolchain::Identity;

/// Removes what was built in another way than the next build would.
///
/// Cargo sees neither that bpf-linker has another version nor what the wrapper changes in rustc's
/// arguments, and takes remapped paths for something that changes nothing.
pub fn prepare(target_dir: &Path, toolchain: &Identity, rustflags: &OsStr) -> Result<()> {
    let stamp_path = target_dir.join("recipe.json");
    let flags = rustflags.to_string_lossy();
    let stamp = serde_json::to_string(&(recipe::recorded_flags(), toolchain, flags))?;
    let built = target_dir.join(recipe::TARGET);
    if fs::read_to_string(&stamp_path).unwrap_or_default() != stamp {
        remove(&built)?;
        fs::create_dir_all(target_dir)
            .and_then(|()| fs::write(&stamp_path, stamp))
            .with_context(|| format!("cannot write {}", stamp_path.display()))?;
    }
    // Our own programs are always compiled and linked anew; the record of cargo that goes by the
    // sources' times is left for the crates that they use.
    let Ok(units) = fs::read_dir(built.join("release/.fingerprint")) else {
        return Ok(());
    };
    for unit in units.flatten() {
        if unit
            .file_name()
            .to_string_lossy()
            .starts_with(recipe::PACKAGE)
        {
            remove(&unit.path())?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
