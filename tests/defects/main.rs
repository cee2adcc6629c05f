//! The suite on defective kernels: `cargo test --test defects`, or `... --test defects NAME` for those with this in their names.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod suite;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tracer;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn main() {
    suite::main();
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn main() {
    println!("skipped: the tracer knows x86_64 and aarch64 only");
}
