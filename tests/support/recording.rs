//! The recordings, which are stored beside the repository.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Returns the folder of a recording. If it is missing, prints `NOT RUN`, or panics where `CI` is set.
pub fn recording_folder(name: &str) -> Option<PathBuf> {
    data_folder("recordings", name)
}

/// Like [`recording_folder`], for a small recording that once went wrong.
pub fn case_folder(name: &str) -> Option<PathBuf> {
    data_folder("cases", name)
}

fn data_folder(kind: &str, name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(kind).join(name);
    if folder.join("manifest.json").is_file() {
        return Some(folder);
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
    assert!(!in_ci, "there is no recording in {}", folder.display());
    // Not `eprintln!`, whose output the test harness captures.
    writeln!(std::io::stderr(), "NOT RUN: there is no recording in {}", folder.display()).expect("standard error");
    None
}
