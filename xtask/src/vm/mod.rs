//! The kernel matrix: distribution kernels under QEMU, with an image of static test binaries.

pub mod apt;
pub mod boots;
pub mod build;
pub mod console;
pub mod cpio;
pub mod image;
pub mod kernels;
pub mod protocol;
pub mod qemu;
pub mod table;
