//! Which kernel answers: several speak Linux, and uname(2) of each says that it is one.

use crate::kernel::machine::is_translated;

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
