//! What `cargo xtask` does, as a library, so that tests can use the same code as the tasks.
pub mod bench;
pub mod build_ebpf;
pub mod ebpf;
pub mod fuzz_ledger;
pub mod not_run;
pub mod paths;
pub mod process;
pub mod run_test;
pub mod test;
pub mod vm;
pub mod vm_test;
