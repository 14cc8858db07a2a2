//! Swap on a disk in memory: no disk of the host's is needed.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use xtask::vm::protocol::RAMDISK_MODULE;

use crate::setup::load_module;

const DISK: &str = "/dev/ram0";
const PAGE: u64 = 4096;
/// In the first page, as mkswap writes it (include/linux/swap.h:union swap_header).
const VERSION_AT: u64 = 1024;
const LAST_PAGE_AT: u64 = 1028;
const MAGIC: &[u8] = b"SWAPSPACE2";

pub fn on(mib: u64) -> Result<()> {
    load_module(RAMDISK_MODULE, &format!("rd_nr=1 rd_size={}", mib << 10))?;
    let pages = u32::try_from((mib << 20) / PAGE).context("too much swap")?;
    format(pages).with_context(|| format!("cannot write to {DISK}"))?;
    let disk = CString::new(DISK).context("a path with NUL")?;
    // SAFETY: the path ends with NUL.
    match unsafe { libc::swapon(disk.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).with_context(|| format!("cannot swap on {DISK}")),
    }
}

fn format(pages: u32) -> io::Result<()> {
    let disk = OpenOptions::new().write(true).open(DISK)?;
    disk.write_all_at(&1u32.to_le_bytes(), VERSION_AT)?;
    disk.write_all_at(&(pages - 1).to_le_bytes(), LAST_PAGE_AT)?;
    disk.write_all_at(MAGIC, PAGE - MAGIC.len() as u64)
}
