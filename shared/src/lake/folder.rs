//! A lake in a folder of this machine.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::RwLock;

use super::store::{Entry, Put, Store};
use crate::error::{Error, Kind, Result};

/// Unfinished objects lie here until they are renamed into place; a name with a dot is invisible to every reader of tables.
const UNFINISHED: &str = ".unfinished";

/// Held while a run writes: the system lets it go when the process ends, however it ends, so it can't go stale.
const LOCK: &str = ".lock";

/// Objects as files below a folder.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: PathBuf,
    _lock: Option<Arc<File>>,
    /// Held for reading by every operation until it ends, even if nobody waits for it any more.
    under_way: Arc<RwLock<()>>,
}

impl FolderStore {
    /// The objects below a folder, for reading.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        FolderStore { root: root.into(), _lock: None, under_way: Arc::default() }
    }

    /// Opens the folder for a run: makes it if it is not there, and clears what a run that died left unfinished. Other runs
    /// are kept out until this value and its clones are dropped.
    ///
    /// # Errors
    /// `BadInput` for a folder that can't be made or written to, `AlreadyRunning` where another process writes to it.
    pub fn open_for_run(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let unwritable = |cause: io::Error| {
            Error::bad_input("the lake's folder can't be written")
                .with("path", root.display())
                .because(cause)
                .next("choose another folder with --lake, or make this one writable")
        };
        std::fs::create_dir_all(&root).map_err(unwritable)?;
        let lock = File::create(root.join(LOCK)).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(
                    Error::new(Kind::AlreadyRunning, "another run writes to this lake").with("path", root.display())
                );
            }
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        clear_unfinished(&root.join(UNFINISHED)).map_err(unwritable)?;
        Ok(FolderStore { root, _lock: Some(Arc::new(lock)), under_way: Arc::default() })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    async fn run<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path(key);
        let shown = path.display().to_string();
        let under_way = Arc::clone(&self.under_way).read_owned().await;
        let operation = move || {
            let done = work(&path);
            drop(under_way);
            done
        };
        let done = tokio::task::spawn_blocking(operation).await;
        let done = done.map_err(|cause| Error::internal("a file operation was cut short").because(cause))?;
        done.map_err(|cause| io_error(cause, &shown))
    }
}

fn clear_unfinished(unfinished: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(unfinished),
    }
}

fn io_error(cause: io::Error, path: &str) -> Error {
    let (kind, next) = match cause.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory => (Kind::BadInput, "make the lake's folder readable and writable"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Kind::Internal, "make room on the disk and run again"),
        _ => (Kind::Internal, "check the disk and run again"),
    };
    Error::new(kind, "a file of the lake can't be read or written").with("path", path).because(cause).next(next)
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn compare(old: Option<&[u8]>, new: &[u8]) -> Put {
    match old {
        None => Put::Created,
        Some(old) if old == new => Put::Unchanged,
        Some(_) => Put::Replaced,
    }
}

/// Writes beside the tables, then renames: the rename is the commit.
fn write_atomically(unfinished: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::create_dir_all(unfinished)?;
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(unfinished)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Entry>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &entry.path(), found)?;
        } else if let Some(key) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) {
            match entry.metadata() {
                // Deleted since the folder was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                metadata => found.push(Entry { key: key.to_owned(), size: metadata?.len() }),
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Store for FolderStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.run(key, read_if_there).await?.map(Bytes::from))
    }

    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<Put> {
        Ok(compare(self.get(key).await?.as_deref(), bytes))
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Put> {
        let unfinished = self.root.join(UNFINISHED);
        self.run(key, move |path| {
            let put = compare(read_if_there(path)?.as_deref(), &bytes);
            if put != Put::Unchanged {
                write_atomically(&unfinished, path, &bytes)?;
            }
            Ok(put)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        // A prefix need not end at a folder: list the folder it lies in, and keep what begins with it.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        self.run(&folder, move |folder| {
            let mut found = Vec::new();
            walk(&root, folder, &mut found)?;
            found.retain(|entry| entry.key.starts_with(&prefix));
            found.sort_unstable();
            Ok(found)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.run(key, |path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    async fn settle(&self) {
        drop(self.under_way.write().await);
    }

    fn location(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FolderStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open_for_run(folder.path().join("lake")).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn equal_bytes_are_not_written_again() {
        let (_folder, store) = store();
        store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
        let before = std::fs::metadata(store.path("a/b")).unwrap().modified().unwrap();
        store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(std::fs::metadata(store.path("a/b")).unwrap().modified().unwrap(), before);
    }

    #[test]
    fn a_lake_that_can_not_be_written_is_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = FolderStore::open_for_run(file.join("lake")).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput);
    }

    #[tokio::test]
    async fn what_a_dead_run_left_is_cleared_and_one_run_keeps_others_out() {
        let (_folder, store) = store();
        let left = store.root.join(UNFINISHED).join("left");
        std::fs::write(&left, "half").unwrap();
        assert!(store.list("").await.unwrap().is_empty());
        let root = store.root.clone();
        assert_eq!(FolderStore::open_for_run(&root).unwrap_err().kind(), Kind::AlreadyRunning);
        drop(store);
        FolderStore::open_for_run(&root).unwrap();
        assert!(!left.exists());
    }
}
