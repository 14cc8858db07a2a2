//! How the eBPF object is built, recorded and checked.
pub mod cache;
pub mod compile;
pub mod environment;
pub mod inputs;
pub mod libraries;
pub mod linker;
pub mod llvm;
pub mod lock;
pub mod manifest;
pub mod missing;
pub mod object_file;
pub mod recipe;
pub mod rustc;
pub mod toolchain;
pub mod workspace;
pub mod wrapper;
