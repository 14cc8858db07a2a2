//! Wire records shared by kernel side and userspace.
#![cfg_attr(target_arch = "bpf", no_std)]
