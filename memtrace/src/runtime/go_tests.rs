//! Tests of what Go leaves in a program.
