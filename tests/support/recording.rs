//! The recordings beside the project.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a recording. Where it is missing the test says so; on a build server that is a failure.
pub fn recording(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/recordings").join(name);
    if folder.join("manifest.json").is_file() {
        return Some(folder);
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty());
    assert!(!in_ci, "there is no recording in {}", folder.display());
    // Past the capture of the test harness, which would keep it to itself.
    writeln!(std::io::stderr(), "NOT RUN: there is no recording in {}", folder.display()).expect("standard error");
    None
}
