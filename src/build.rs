//! Builds the reviewed snapshots into the program, so that it can compare where there is no checkout.

use std::fmt::Write as _;
use std::path::Path;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let folder = Path::new(&root).join("snapshots");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.retain(|name| name.ends_with(".snap"));
    names.sort();
    let mut table = String::from("&[\n");
    for name in &names {
        let path = folder.join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let stem = name.trim_end_matches(".snap");
        writeln!(table, "    ({stem:?}, include_str!({:?})),", path.display().to_string())
            .expect("writing to a string");
    }
    table.push(']');
    std::fs::write(Path::new(&out).join("snapshots.rs"), table).expect("OUT_DIR can be written");
}
