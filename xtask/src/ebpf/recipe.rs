//! The fixed part of the build: package, target and flags, the same on every machine.

pub const PACKAGE: &str = "memtrace-ebpf";
pub const BIN: &str = "memtrace-bpf";
pub const TARGET: &str = "bpfel-unknown-none";

/// The linker turns rustc's bitcode into BPF, so its version decides the bytes as much as rustc's.
pub const LINKER_VERSION: &str = "0.13.0";

/// The LLVM releases that this version of bpf-linker can be built against, oldest first.
pub const LINKER_LLVMS: [u32; 3] = [21, 22, 23];

/// What cargo is told, apart from the target directory and `--locked`.
///
/// Every key of the profile that changes code is set here, because the workspace's own release
/// profile is made for the userspace binary: it has line tables only, while BTF is made from full
/// debug info, and LTO, which is bpf-linker's work here.
pub const CARGO_ARGS: &[&str] = &[
    "build",
    "--package=memtrace-ebpf",
    "--bin=memtrace-bpf",
    "--release",
    "--target=bpfel-unknown-none",
    "-Zbuild-std=core",
    "--config=profile.release.opt-level=3",
    "--config=profile.release.debug=2",
    "--config=profile.release.lto=\"off\"",
    "--config=profile.release.codegen-units=1",
    "--config=profile.release.panic=\"abort\"",
    "--config=profile.release.strip=\"none\"",
    "--config=profile.release.overflow-checks=false",
    "--config=profile.release.debug-assertions=false",
    "--config=profile.release.incremental=false",
];

/// What rustc is told, apart from the `--remap-path-prefix` flags.
///
/// aya-ebpf takes the layout of `pt_regs` from `bpf_target_arch`.
pub const RUSTFLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
];

/// What the three folders that the build reads from are called inside the object.
pub const REMAPPED_CHECKOUT: &str = "memtrace";
pub const REMAPPED_CARGO_HOME: &str = "cargo";
pub const REMAPPED_RUST_SOURCES: &str = "rust";

/// DWARF is dropped once BTF has been made from it: it is most of the file, and nothing loads it.
pub const STRIP_ARGS: &[&str] = &["--strip-debug"];

/// All flags as the manifest records them, with names in place of this machine's folders.
pub fn recorded_flags() -> Vec<String> {
    let remaps = [
        ("<checkout>", REMAPPED_CHECKOUT),
        ("<cargo home>", REMAPPED_CARGO_HOME),
        ("<rust sources>", REMAPPED_RUST_SOURCES),
        ("<folder of a dependency>", "<name>-<version>"),
    ];
    let cargo = CARGO_ARGS.iter().map(|arg| format!("cargo {arg}"));
    let named = [
        "-Cmetadata=memtrace-ebpf",
        "-Cmetadata=<name>-<version of a dependency>",
    ];
    let rustc = RUSTFLAGS
        .iter()
        .chain(&named)
        .map(|flag| format!("rustc {flag}"));
    let remap = remaps
        .iter()
        .map(|(from, to)| format!("rustc --remap-path-prefix={from}={to}"));
    let strip = STRIP_ARGS.iter().map(|arg| format!("llvm-objcopy {arg}"));
    cargo.chain(rustc).chain(remap).chain(strip).collect()
}
