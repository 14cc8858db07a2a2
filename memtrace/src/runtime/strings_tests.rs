//! Tests of the search for strings.
