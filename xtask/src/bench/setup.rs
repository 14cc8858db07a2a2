//! What every measurement needs: the programs, the CPUs and a folder.
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cpus::Cpus;
use super::redis;
use super::scratch::Scratch;
use crate::process;

pub struct Setup {
    pub memtrace: PathBuf,
    pub workload: PathBuf,
    pub cpus: Cpus,
    /// What serves in all runs of one workload; dropped before the folder that it works in.
    pub redis: RefCell<Option<redis::Server>>,
    pub scratch: Scratch,
}

impl Setup {
    /// Builds what is measured as it is shipped, and keeps to the CPUs that are not measured.
    pub fn new(root: &Path, target: &Path, results: &Path) -> Result<Self> {
        eprintln!("Building memtrace and the workloads");
        process::run(
            process::cargo(root)
                .args([
                    "build",
                    "--release",
                    "--bin=memtrace",
                    "--bin=bench-workload",
                ])
                .args(["--package=memtrace", "--package=memtrace-tests"]),
        )?;
        let cpus = Cpus::share_out()?;
        let scratch = Scratch::enter(&results.join("scratch"))?;
        cpus.others.enter()?;
        Ok(Self {
            memtrace: target.join("release/memtrace"),
            workload: target.join("release/bench-workload"),
            cpus,
            redis: RefCell::new(None),
            scratch,
        })
    }
}
