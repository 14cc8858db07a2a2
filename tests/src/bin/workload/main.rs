//! The workloads, each a behaviour with known truth, in one program so that there is one to build.
//!
//! `workload NAME [ARGS]`; what it says and hears is described in `memtrace_tests::scene`.

mod advise_errors;
mod advise_holes;
mod advise_keeps;
mod advise_sizes;
mod advises_and_closes;
mod before_attach;
mod brk_cycle;
mod busy;
mod children_advise;
mod churns;
mod collapse;
mod comes_back;
mod dontneed_huge_range;
mod dontneed_locked;
mod dontneed_mapped;
mod dontneed_partial;
mod dontneed_private_file;
mod dontneed_read_write;
mod dontneed_touch;
mod dontneed_untouched;
mod exec_again;
mod fault_around;
mod fills;
mod first_read_write;
mod fork_inherited;
mod fork_rewrite;
mod fork_untouched;
mod free_again;
mod free_folios;
mod free_mixed;
mod free_pageout;
mod free_rewrite;
mod free_then_dontneed;
mod free_twice;
mod grows;
mod guard;
mod hangs;
mod huge_grows;
mod huge_pages;
mod huge_rounds;
mod kernel_reads;
mod killed_child;
mod lazy_before;
mod lazy_holds;
mod lazy_steps;
mod many_refaults;
mod map_fixed_over;
mod maps_code;
mod mremap_dontunmap;
mod mremap_move;
mod mremap_several;
mod mremap_shrink;
mod munmap_again;
mod page_out_ranges;
mod populate;
mod populates;
mod pwrite_fresh;
mod read_fresh;
mod reclaim_pattern;
mod reclaim_ranges;
mod refused_advice;
mod remove_refused;
mod remove_shared;
mod runs_many;
mod sharers;
mod spawns;
mod stack_growth;
mod swaps;
mod switches;
mod threads_churn;
mod threads_disjoint;
mod threads_doubt;
mod threads_overlap;
mod threads_race;
mod vfork_advises;
mod waits;

use memtrace_tests::scene::{disable_huge_pages, fail};

fn main() {
    // Before anything is populated: one fault is one page, but for those that are about huge pages.
    disable_huge_pages(true);
    let name = std::env::args().nth(1).unwrap_or_default();
    match name.as_str() {
        "advise_errors" => advise_errors::main(),
        "advise_holes" => advise_holes::main(),
        "advise_keeps" => advise_keeps::main(),
        "advise_sizes" => advise_sizes::main(),
        "advises_and_closes" => advises_and_closes::main(),
        "before_attach" => before_attach::main(),
        "brk_cycle" => brk_cycle::main(),
        "busy" => busy::main(),
        "children_advise" => children_advise::main(),
        "churns" => churns::main(),
        "collapse" => collapse::main(),
        "comes_back" => comes_back::main(),
        "dontneed_huge_range" => dontneed_huge_range::main(),
        "dontneed_locked" => dontneed_locked::main(),
        "dontneed_mapped" => dontneed_mapped::main(),
        "dontneed_partial" => dontneed_partial::main(),
        "dontneed_private_file" => dontneed_private_file::main(),
        "dontneed_read_write" => dontneed_read_write::main(),
        "dontneed_touch" => dontneed_touch::main(),
        "dontneed_untouched" => dontneed_untouched::main(),
        "exec_again" => exec_again::main(),
        "fault_around" => fault_around::main(),
        "fills" => fills::main(),
        "first_read_write" => first_read_write::main(),
        "fork_inherited" => fork_inherited::main(),
        "fork_rewrite" => fork_rewrite::main(),
        "fork_untouched" => fork_untouched::main(),
        "free_again" => free_again::main(),
        "free_folios" => free_folios::main(),
        "free_mixed" => free_mixed::main(),
        "free_pageout" => free_pageout::main(),
        "free_rewrite" => free_rewrite::main(),
        "free_then_dontneed" => free_then_dontneed::main(),
        "free_twice" => free_twice::main(),
        "grows" => grows::main(),
        "guard" => guard::main(),
        "hangs" => hangs::main(),
        "huge_grows" => huge_grows::main(),
        "huge_pages" => huge_pages::main(),
        "huge_rounds" => huge_rounds::main(),
        "kernel_reads" => kernel_reads::main(),
        "killed_child" => killed_child::main(),
        "lazy_before" => lazy_before::main(),
        "lazy_holds" => lazy_holds::main(),
        "lazy_steps" => lazy_steps::main(),
        "many_refaults" => many_refaults::main(),
        "map_fixed_over" => map_fixed_over::main(),
        "maps_code" => maps_code::main(),
        "mremap_dontunmap" => mremap_dontunmap::main(),
        "mremap_move" => mremap_move::main(),
        "mremap_several" => mremap_several::main(),
        "mremap_shrink" => mremap_shrink::main(),
        "munmap_again" => munmap_again::main(),
        "page_out_ranges" => page_out_ranges::main(),
        "populate" => populate::main(),
        "populates" => populates::main(),
        "pwrite_fresh" => pwrite_fresh::main(),
        "read_fresh" => read_fresh::main(),
        "reclaim_pattern" => reclaim_pattern::main(),
        "reclaim_ranges" => reclaim_ranges::main(),
        "refused_advice" => refused_advice::main(),
        "remove_refused" => remove_refused::main(),
        "remove_shared" => remove_shared::main(),
        "runs_many" => runs_many::main(),
        "sharers" => sharers::main(),
        "spawns" => spawns::main(),
        "stack_growth" => stack_growth::main(),
        "swaps" => swaps::main(),
        "switches" => switches::main(),
        "threads_churn" => threads_churn::main(),
        "threads_disjoint" => threads_disjoint::main(),
        "threads_doubt" => threads_doubt::main(),
        "threads_overlap" => threads_overlap::main(),
        "threads_race" => threads_race::main(),
        "vfork_advises" => vfork_advises::main(),
        "waits" => waits::main(),
        _ => fail("no workload has this name"),
    }
}
