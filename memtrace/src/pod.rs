//! The wire structs as aya may copy them out of maps.

/// A wire struct in a map.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Wire<T>(pub T);

// SAFETY: each is repr(C), made of integers only, and has no padding that is not named: the
// sizes are asserted where they are defined.
unsafe impl aya::Pod for Wire<memtrace_ebpf::Pending> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<memtrace_ebpf::MmCpu> {}
// SAFETY: as above.
unsafe impl aya::Pod for Wire<memtrace_ebpf::MmShared> {}
