//! A folder with all that is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The bytes of every file below a folder, by its path there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Vec<u8>>);

impl Tree {
    /// Reads a folder; one that is not there holds nothing.
    pub fn read(root: &Path) -> Tree {
        let mut tree = Tree::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(root).expect("a path below the root").to_str().expect("text");
                    tree.0.insert(name.to_owned(), fs::read(&path).expect("a file"));
                }
            }
        }
        tree
    }

    /// The paths in it.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
