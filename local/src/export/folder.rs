//! Folders of generated files: they replace what an earlier call wrote, and nothing else.

use std::fs;
use std::io::{ErrorKind, Result as IoResult};
use std::path::Path;

use defi_shared::error::{Error, Result};

use crate::output::write_file;

/// A file to write: its path in the folder, and its text, whose first line contains [`mark`].
pub(super) type File = (&'static str, String);

/// Returns what the first line of each file contains: the name of the command that wrote it.
pub(super) fn mark(command: &str) -> String {
    format!("Written by defi {command}")
}

/// Writes files into a folder, which is created if it is missing. A folder with other content is left as it is. One that
/// an earlier call wrote is written again, and files that it does not know stay.
///
/// # Errors
/// `BadInput` if the folder has other content, or a file can't be written.
pub(super) fn write(folder: &Path, command: &str, files: &[File]) -> Result<()> {
    let failed = |cause| {
        Error::bad_input("the folder can't be written")
            .with("path", folder.display())
            .with_source(cause)
            .with_hint("choose another folder")
    };
    if let Some(entry) = any_entry(folder).map_err(failed)? {
        for (index, (name, _)) in files.iter().enumerate() {
            let path = folder.join(name);
            // The first file tells a folder of an earlier call from any other.
            let other = match first_line(&path).map_err(failed)? {
                Some(line) => (!line.contains(&mark(command))).then_some(*name),
                None => (index == 0).then_some(&*entry),
            };
            if let Some(other) = other {
                return Err(Error::bad_input(format!("the folder has other content than that of defi {command}"))
                    .with("path", folder.display())
                    .with("contains", other)
                    .with_hint("choose a new or an empty folder"));
            }
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        write_file(&path, text)?;
    }
    Ok(())
}

/// Returns the first name in a folder, apart from a repository of Git, or `None` if there is nothing or no folder.
fn any_entry(folder: &Path) -> IoResult<Option<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let names: IoResult<Vec<_>> = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    Ok(names?.into_iter().filter(|name| name != ".git").min())
}

/// Returns the first line of a file, or `None` if there is no file.
fn first_line(path: &Path) -> IoResult<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn files(version: &str) -> [File; 2] {
        ["first.txt", "inner/second.txt"].map(|name| (name, format!("# {}\n{version}\n", mark("test"))))
    }

    #[test]
    fn files_of_an_earlier_call_are_replaced_and_others_stay() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("new");
        write(&path, "test", &files("1")).unwrap();
        fs::write(path.join("inner/other.txt"), "mine").unwrap();
        fs::remove_file(path.join("inner/second.txt")).unwrap();
        write(&path, "test", &files("2")).unwrap();
        for (name, text) in files("2") {
            assert_eq!(fs::read_to_string(path.join(name)).unwrap(), text);
        }
        assert_eq!(fs::read_to_string(path.join("inner/other.txt")).unwrap(), "mine");
    }

    #[test]
    fn folder_with_other_content_stays_as_it_is() {
        for (name, text) in [("other.txt", "mine"), ("first.txt", "mine"), ("inner/second.txt", "mine")] {
            let folder = tempdir().unwrap();
            fs::create_dir(folder.path().join("inner")).unwrap();
            fs::write(folder.path().join(name), text).unwrap();
            let error = write(folder.path(), "test", &files("1")).unwrap_err();
            let error = error.to_string();
            let entry = if name.starts_with("first") { "first.txt" } else { "inner" };
            assert!(error.contains("other content") && error.contains(&format!("contains={entry}")), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), text);
        }
    }

    #[test]
    fn file_of_the_user_among_those_of_an_earlier_call_is_kept() {
        let folder = tempdir().unwrap();
        write(folder.path(), "test", &files("1")).unwrap();
        fs::write(folder.path().join("inner/second.txt"), "mine").unwrap();
        assert!(write(folder.path(), "test", &files("2")).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("first.txt")).unwrap(), files("1")[0].1);
    }

    #[test]
    fn file_in_place_of_the_folder_is_an_error() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "mine").unwrap();
        assert!(write(&path, "test", &files("1")).is_err());
    }
}
