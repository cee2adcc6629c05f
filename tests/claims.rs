//! Every claim as a test of its own.

fn main() {}
