//! The recordings, which are stored beside the repository.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Returns the folder of a recording. If it is missing, prints `NOT RUN`, or panics where `CI` is set.
pub fn recording_folder(name: &str) -> Option<PathBuf> {
    data_folder(&format!("recordings/{name}"))
}

/// Returns the folder of a small input that once went wrong, as [`recording_folder`] does.
pub fn case_folder(name: &str) -> Option<PathBuf> {
    data_folder(&format!("cases/{name}"))
}

fn data_folder(path: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(path);
    if folder.is_dir() {
        return Some(folder);
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
    assert!(!in_ci, "there is no recording in {}", folder.display());
    // Not `eprintln!`, whose output the test harness captures.
    writeln!(std::io::stderr(), "NOT RUN: there is no recording in {}", folder.display()).expect("standard error");
    None
}
