//! The contents of a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The bytes of every file in a folder and its subfolders, by path relative to the folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Vec<u8>>);

impl Tree {
    /// Reads a folder. A missing folder is an empty tree.
    pub fn read(root: &Path) -> Tree {
        let mut tree = Tree::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(root).expect("a path below the root").to_str().expect("a UTF-8 path");
                    tree.0.insert(name.to_owned(), fs::read(&path).expect("a file"));
                }
            }
        }
        tree
    }

    /// Returns the paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Returns whether an object depends on the work of each run, and not only on the chain and the as-of day.
pub fn is_of_runs(path: &str) -> bool {
    path.starts_with("runs/") || path.starts_with("state/unfinished/")
}
