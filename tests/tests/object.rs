//! The committed eBPF object: made from these sources, loadable, and without traces of where it was built.
use std::fs;
use std::path::PathBuf;

use xtask::ebpf::manifest::Manifest;
use xtask::ebpf::object_file;
use xtask::paths;

fn checkout() -> PathBuf {
    paths::checkout().expect("cargo names this package's folder")
}

#[test]
fn the_manifest_describes_the_object_and_the_sources_it_was_built_from() {
    let root = checkout();
    let manifest = Manifest::read(&root).expect("the manifest can be read");
    let stale = manifest.stale(&root).expect("the sources can be hashed");
    assert!(
        stale.is_empty(),
        "run `cargo xtask build-ebpf` and commit memtrace/bpf/, because since then:\n  {}",
        stale.join("\n  ")
    );
}

#[test]
fn the_object_has_btf_and_its_licence_and_neither_dwarf_nor_paths() {
    let root = checkout();
    let object = fs::read(paths::object(&root)).expect("the object can be read");
    let faults = object_file::faults(&object, &[&root]).expect("the object is an ELF file");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
