//! A defective kernel, made by rewriting the system calls of a program that runs on a correct one.

pub mod behaviour;
pub mod call;
pub mod correct;
pub mod defect;
pub mod engine;
pub mod kept;
pub mod memory;
pub mod powers;
pub mod process;
pub mod rule;
pub mod table;
pub mod tracee;
pub mod when;
