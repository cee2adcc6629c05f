//! A conformance suite for memory mappings, pipes and FIFOs on Linux.
//!
//! A [claim](claim::Claim) is a statement of one of five documents. Each is put to the running kernel with generated
//! [inputs](input) by a property over a [lab](lab::Lab), in a worker process of its own ([`run`]); what the kernel answered
//! is [reported](report) and compared with reviewed snapshots.

#[cfg(not(target_os = "linux"))]
compile_error!("mmap-conformance puts claims to a Linux kernel, and builds for Linux alone");

pub mod claim;
pub mod claims;
pub mod input;
pub mod kernel;
pub mod lab;
pub mod model;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod sequences;
