//! The eBPF programs of memtrace: one module per family of hooks.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[aya_ebpf::macros::raw_tracepoint(tracepoint = "sys_enter")]
    fn placeholder(_ctx: aya_ebpf::programs::RawTracePointContext) -> i32 { 0 }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
