//! Which kernel answers: several speak Linux, and uname(2) of each says that it is one.

use rustix::thread::gettid;

/// The names that [`name`] gives.
pub const NAMES: [&str; 4] = ["linux", "uml", "gvisor", "qemu-user"];

/// The version that every gVisor gives itself (uname(2), version), whatever its release.
const GVISOR: &str = "Sun Jan 10 15:06:54 PST 2016";

/// `linux`, unless there is a sign of another: `uml`, `gvisor`, `qemu-user`.
pub fn name(release: &str, version: &str) -> &'static str {
    if is_translated() {
        "qemu-user"
    } else if version.contains(GVISOR) || release.contains("gvisor") {
        "gvisor"
    } else if std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("User Mode Linux")) {
        "uml"
    } else {
        "linux"
    }
}

/// A translator names the translated program where it expects the question; the path by the thread's number it leaves to
/// the kernel, which names the translator.
fn is_translated() -> bool {
    let own = std::fs::read_link("/proc/self/exe");
    let threads = std::fs::read_link(format!("/proc/self/task/{}/exe", gettid().as_raw_nonzero()));
    own.is_ok_and(|own| threads.is_ok_and(|threads| own != threads))
}
