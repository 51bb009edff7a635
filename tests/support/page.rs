//! The sections of documentation pages that tests generate.

use std::path::{Path, PathBuf};

/// Returns the path of a file of the repository.
pub fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Asserts that the sections of a page, by name, have the given texts. With the environment variable `UPDATE_DOCS` set,
/// also writes them. `module` is the module of the test.
pub fn check_page(path: &str, module: &str, sections: &[(&str, String)]) {
    let page = std::fs::read_to_string(repository_file(path)).expect("a page");
    let expected = sections.iter().fold(page.clone(), |page, (name, text)| replace_section(&page, name, text));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(repository_file(path), &expected).expect("a page that can be written");
    }
    assert!(
        page == expected,
        "{path} does not match the code; to update it: UPDATE_DOCS=1 cargo test -p defi-local --test pipeline {module}::"
    );
}

/// Replaces the section between the markers with a name.
fn replace_section(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no section {name}"));
    let (_, after) = rest.split_once(&end).expect("the end of the section");
    format!("{before}{begin}{text}{end}{after}")
}
