//! Tests of the other allocators and runtimes.
