//! A store in a local folder.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::RwLock;

use super::ObjectDigest;
use super::store::{Entry, ObjectVersion, PutOutcome, Store, Tail};
use crate::error::{Error, Kind, Result};

/// The folder of files that are being written. They are renamed into place once complete. Table readers ignore names
/// that start with a dot.
const UNFINISHED: &str = ".unfinished";

/// The file that is locked while a run writes. The operating system releases the lock when the process ends, even
/// after a crash.
const LOCK: &str = ".lock";

/// Held by swaps, which compare and write in two steps. Only one process writes to a folder.
static SWAP: Mutex<()> = Mutex::new(());

/// A store whose objects are the files below a folder. The folder itself may be a symbolic link. Below it, a link to a
/// file is read as the file, and replaced if the object is written. A link to a folder, which could lead out of the lake,
/// is an error: nothing is listed, written or deleted through it.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: PathBuf,
    _lock: Option<Arc<File>>,
    /// Every operation holds a read guard until it ends, even if its caller was dropped.
    in_progress: Arc<RwLock<()>>,
}

impl FolderStore {
    /// Creates a store of the objects below a folder, without locking the folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        FolderStore { root: root.into(), _lock: None, in_progress: Arc::default() }
    }

    /// Opens a folder for a run: creates it if it is missing, locks it, and removes the unfinished files of an
    /// interrupted run. The lock is held until this value and all its clones are dropped.
    ///
    /// # Errors
    /// `BadInput` if the folder has other files than those of a lake, if it can't be created or written, or if its lock is
    /// a link; `AlreadyRunning` if another process holds the lock.
    pub fn open_for_run(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        reject_other_folders(&root)?;
        let unwritable = |cause: io::Error| {
            Error::bad_input("cannot write to the lake's folder")
                .with("path", root.display())
                .with_source(cause)
                .with_hint("choose another folder with --lake, or make this folder writable")
        };
        std::fs::create_dir_all(&root).map_err(unwritable)?;
        let path = root.join(LOCK);
        let lock =
            open_lock(&path).map_err(|cause| if path.is_symlink() { link_error(&path) } else { unwritable(cause) })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(Kind::AlreadyRunning, "another run is writing to this lake")
                    .with("path", root.display()));
            }
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        clear_unfinished(&root.join(UNFINISHED)).map_err(unwritable)?;
        Ok(FolderStore { root, _lock: Some(Arc::new(lock)), in_progress: Arc::default() })
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
        let displayed = path.display().to_string();
        let guard = Arc::clone(&self.in_progress).read_owned().await;
        let operation = move || {
            let result = work(&path);
            drop(guard);
            result
        };
        let result = tokio::task::spawn_blocking(operation).await;
        let result = result.map_err(|cause| Error::internal("a file operation was interrupted").with_source(cause))?;
        result.map_err(|cause| io_error(cause, &displayed))
    }
}

/// What a lake has: the catalog, the records, which are written before every object, or the name of its chain.
const SIGNS_OF_A_LAKE: [&str; 3] = ["catalog", "digests", "chain.json"];

/// Rejects a folder with files that is no lake: a run would mix its objects with what is there. Hidden files do not count:
/// programs leave them everywhere.
fn reject_other_folders(root: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(root) else { return Ok(()) };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    let is_lake = names.iter().any(|name| SIGNS_OF_A_LAKE.contains(&name.as_str()));
    match names.iter().min() {
        Some(first) if !is_lake => Err(Error::bad_input("the folder is not empty and is not a lake")
            .with("path", root.display())
            .with("contains", first)
            .with_hint("choose a new or an empty folder with --lake")),
        _ => Ok(()),
    }
}

/// Opens the file that is locked, and creates it if it is missing. Its content is left as it is: a lake that came from
/// elsewhere may hold any file, or a link to one, under this name.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path)
}

fn link_error(path: &Path) -> Error {
    Error::bad_input("a file of the lake is a symbolic link, which is not followed")
        .with("path", path.display())
        .with_hint("look at where it leads, and delete the link")
}

fn clear_unfinished(unfinished: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(unfinished),
    }
}

/// A link below a lake that is not followed: to a folder, which could lead out of the lake, or to nothing.
#[derive(Debug)]
struct LinkError(PathBuf);

impl LinkError {
    fn io(path: &Path) -> io::Error {
        io::Error::other(LinkError(path.to_owned()))
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the symbolic link {} leads to a folder or to nothing", self.0.display())
    }
}

impl std::error::Error for LinkError {}

fn io_error(cause: io::Error, path: &str) -> Error {
    if cause.get_ref().is_some_and(|cause| cause.is::<LinkError>()) {
        return Error::bad_input("a symbolic link in the lake is not followed")
            .with_source(cause)
            .with_hint("replace the link by what it leads to");
    }
    let (kind, hint) = match cause.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory => (Kind::BadInput, "make the lake's folder readable and writable"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Kind::Internal, "free disk space and run again"),
        _ => (Kind::Internal, "check the disk and run again"),
    };
    Error::new(kind, "cannot read or write a file of the lake").with("path", path).with_source(cause).with_hint(hint)
}

/// Opens a file for reading. Anything else, such as a pipe, which may keep a reader waiting for ever, is an error.
fn open_if_exists(path: &Path) -> io::Result<Option<File>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("not a regular file")),
        Ok(_) => {}
    }
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// The maximum size of an object that is read as a whole: many times that of the largest.
const MAX_OBJECT_BYTES: u64 = 4 << 30;

/// Opens an object that is read as a whole. Also returns its size.
fn open_whole_if_exists(path: &Path) -> io::Result<Option<(File, u64)>> {
    let Some(file) = open_if_exists(path)? else { return Ok(None) };
    let size = file.metadata()?.len();
    // The size of a file with holes is not what it takes on the disk.
    if size > MAX_OBJECT_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {size} bytes, more than any object")));
    }
    Ok(Some((file, size)))
}

fn read_if_exists(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some((mut file, size)) = open_whole_if_exists(path)? else { return Ok(None) };
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn digest_if_exists(path: &Path) -> io::Result<Option<ObjectDigest>> {
    open_whole_if_exists(path)?.map(|(file, _)| ObjectDigest::of_reader(file)).transpose()
}

fn read_suffix_if_exists(path: &Path, length: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(mut file) = open_if_exists(path)? else { return Ok(None) };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(length as u64)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn read_range_if_exists(path: &Path, range: &Range<u64>) -> io::Result<Option<Vec<u8>>> {
    open_if_exists(path)?.map(|file| read_range(file, range)).transpose()
}

fn read_range(mut file: File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end.saturating_sub(range.start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the version of a file. A file is never changed in place: another one is renamed to its path.
fn version_of(file: &Metadata) -> io::Result<ObjectVersion> {
    let modified = file.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Files that follow each other within a tick of the clock have other numbers.
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(file);
    #[cfg(not(unix))]
    let number = 0;
    Ok(ObjectVersion(format!("{number} {} {}", file.len(), modified.as_nanos())))
}

fn read_tail_if_exists(path: &Path, length: usize) -> io::Result<Option<Tail>> {
    let Some(mut file) = open_if_exists(path)? else { return Ok(None) };
    let metadata = file.metadata()?;
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(length as u64)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(Tail { bytes: bytes.into(), size: metadata.len(), version: version_of(&metadata)? }))
}

fn read_range_of(path: &Path, range: &Range<u64>, version: &ObjectVersion) -> io::Result<Option<Vec<u8>>> {
    match open_if_exists(path)? {
        Some(file) if version_of(&file.metadata()?)? == *version => read_range(file, range).map(Some),
        _ => Ok(None),
    }
}

fn compare(old: Option<&[u8]>, new: &[u8]) -> PutOutcome {
    match old {
        None => PutOutcome::Created,
        Some(old) if old == new => PutOutcome::Unchanged,
        Some(_) => PutOutcome::Replaced,
    }
}

/// Refuses a folder that is a link, or is reached through one below the root.
fn refuse_links(root: &Path, folder: &Path) -> io::Result<()> {
    match folder.ancestors().take_while(|folder| *folder != root).find(|folder| folder.is_symlink()) {
        None => Ok(()),
        Some(link) => Err(LinkError::io(link)),
    }
}

/// Writes a temporary file with a unique name and renames it to its path. The rename is the commit.
fn write_atomically(root: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = root.join(UNFINISHED);
    for folder in path.parent().into_iter().chain([unfinished.as_path()]) {
        refuse_links(root, folder)?;
        std::fs::create_dir_all(folder)?;
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(unfinished)?;
    if !bytes.is_empty() {
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Adds the files below a folder to `found`: with `hidden` only those whose path in `root` is hidden, else the others.
fn walk(root: &Path, folder: &Path, hidden: bool, found: &mut Vec<Entry>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let Ok(key) = path.strip_prefix(root) else { continue };
        if [UNFINISHED, LOCK].map(Path::new).contains(&key) || !hidden && is_hidden(key) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(root, &path, hidden, found)?;
        } else if is_hidden(key) == hidden {
            // Follows a link to a file, as reading does. Hidden ones are only named.
            match if hidden { entry.metadata() } else { std::fs::metadata(&path) } {
                Ok(metadata) if metadata.is_dir() => return Err(LinkError::io(&path)),
                Err(_) if path.is_symlink() => return Err(LinkError::io(&path)),
                // The file was deleted after the folder was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                metadata => found.push(Entry { key: key.to_string_lossy().into_owned(), size: metadata?.len() }),
            }
        }
    }
    Ok(())
}

/// Whether a key has a name that starts with a dot, or is not UTF-8.
fn is_hidden(key: &Path) -> bool {
    key.to_str().is_none_or(|key| key.split('/').any(|name| name.starts_with('.')))
}

#[async_trait]
impl Store for FolderStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.run(key, read_if_exists).await?.map(Bytes::from))
    }

    async fn get_suffix(&self, key: &str, length: usize) -> Result<Option<Bytes>> {
        Ok(self.run(key, move |path| read_suffix_if_exists(path, length)).await?.map(Bytes::from))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        Ok(self.run(key, move |path| read_range_if_exists(path, &range)).await?.map(Bytes::from))
    }

    async fn get_tail(&self, key: &str, length: usize) -> Result<Option<Tail>> {
        self.run(key, move |path| read_tail_if_exists(path, length)).await
    }

    async fn get_range_of(&self, version: &ObjectVersion, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let version = version.clone();
        Ok(self.run(key, move |path| read_range_of(path, &range, &version)).await?.map(Bytes::from))
    }

    /// Reads the file in parts: the digests of many large objects are computed at the same time.
    async fn digest(&self, key: &str) -> Result<Option<ObjectDigest>> {
        self.run(key, digest_if_exists).await
    }

    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<PutOutcome> {
        Ok(compare(self.get(key).await?.as_deref(), bytes))
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<PutOutcome> {
        let root = self.root.clone();
        self.run(key, move |path| {
            let put = compare(read_if_exists(path)?.as_deref(), &bytes);
            if put != PutOutcome::Unchanged {
                write_atomically(&root, path, &bytes)?;
            }
            Ok(put)
        })
        .await
    }

    async fn swap(&self, key: &str, expected: Option<&Bytes>, bytes: Bytes) -> Result<bool> {
        let (root, expected) = (self.root.clone(), expected.cloned());
        self.run(key, move |path| {
            let _one_at_a_time = SWAP.lock().unwrap_or_else(PoisonError::into_inner);
            let is_expected = read_if_exists(path)?.as_deref() == expected.as_deref();
            if is_expected {
                write_atomically(&root, path, &bytes)?;
            }
            Ok(is_expected)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        // A prefix may end within a file name: list its folder and keep the keys that start with the prefix.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        self.run(&folder, move |folder| {
            refuse_links(&root, folder)?;
            let mut found = Vec::new();
            walk(&root, folder, false, &mut found)?;
            found.retain(|entry| entry.key.starts_with(&prefix));
            found.sort_unstable();
            Ok(found)
        })
        .await
    }

    async fn list_hidden(&self) -> Result<Vec<Entry>> {
        let root = self.root.clone();
        self.run("", move |_| {
            let mut found = Vec::new();
            walk(&root, &root, true, &mut found)?;
            found.sort_unstable();
            Ok(found)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let root = self.root.clone();
        self.run(key, move |path| {
            path.parent().map_or(Ok(()), |folder| refuse_links(&root, folder))?;
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn drain(&self) {
        drop(self.in_progress.write().await);
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
    async fn put_does_not_rewrite_equal_bytes() {
        let (_folder, store) = store();
        store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
        let before = std::fs::metadata(store.path("a/b")).unwrap().modified().unwrap();
        store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(std::fs::metadata(store.path("a/b")).unwrap().modified().unwrap(), before);
    }

    #[tokio::test]
    async fn object_that_is_larger_than_any_is_not_read() {
        let (_folder, store) = store();
        store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(store.path("a/b")).unwrap();
        // Nearly all of it is a hole.
        file.set_len(7 << 40).unwrap();
        let error = store.get("a/b").await.unwrap_err();
        assert!(format!("{error:?}").contains("more than any object"), "{error:?}");
    }

    #[test]
    fn unwritable_folder_is_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = FolderStore::open_for_run(file.join("lake")).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput);
    }

    #[test]
    fn folder_with_other_files_is_not_taken_for_a_lake() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("docs");
        std::fs::create_dir_all(root.join("raw")).unwrap();
        std::fs::write(root.join("guide.md"), "of the user").unwrap();
        let error = FolderStore::open_for_run(&root).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput);
        assert!(error.to_string().contains("contains=guide.md") && error.hint().contains("--lake"), "{error}");
        let names = || std::fs::read_dir(&root).unwrap().count();
        assert_eq!(names(), 2, "nothing is written");
        for sign in SIGNS_OF_A_LAKE {
            std::fs::create_dir(root.join(sign)).unwrap();
            FolderStore::open_for_run(&root).unwrap();
            std::fs::remove_dir(root.join(sign)).unwrap();
        }
        let hidden = folder.path().join("hidden");
        std::fs::create_dir_all(hidden.join(".git")).unwrap();
        FolderStore::open_for_run(&hidden).unwrap();
    }

    #[cfg(unix)]
    mod links {
        use std::os::unix::fs::symlink;

        use super::*;

        #[test]
        fn lock_that_is_a_link_is_refused() {
            let folder = tempfile::tempdir().unwrap();
            let [target, root] = ["target", "lake"].map(|name| folder.path().join(name));
            std::fs::create_dir(&root).unwrap();
            let lock = root.join(LOCK);
            symlink(&target, &lock).unwrap();
            for content in [None, Some("of the user")] {
                content.iter().for_each(|content| std::fs::write(&target, content).unwrap());
                let error = FolderStore::open_for_run(&root).unwrap_err();
                assert_eq!(error.kind(), Kind::BadInput);
                assert!(error.to_string().contains(lock.to_str().unwrap()), "{error}");
                assert_eq!(std::fs::read_to_string(&target).ok().as_deref(), content);
            }
        }

        #[test]
        fn content_of_the_lock_is_kept() {
            let folder = tempfile::tempdir().unwrap();
            let (target, root) = (folder.path().join("target"), folder.path().join("lake"));
            std::fs::create_dir(&root).unwrap();
            std::fs::write(&target, "of the user").unwrap();
            std::fs::hard_link(&target, root.join(LOCK)).unwrap();
            FolderStore::open_for_run(&root).unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "of the user");
        }

        #[test]
        fn unfinished_files_behind_a_link_are_kept() {
            let folder = tempfile::tempdir().unwrap();
            let (target, root) = (folder.path().join("target"), folder.path().join("lake"));
            std::fs::create_dir_all(&target).unwrap();
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(target.join("file"), "of the user").unwrap();
            symlink(&target, root.join(UNFINISHED)).unwrap();
            FolderStore::open_for_run(&root).unwrap();
            assert!(target.join("file").exists());
            assert!(!root.join(UNFINISHED).is_symlink());
        }

        #[tokio::test]
        async fn nothing_is_written_or_deleted_through_a_link() {
            let folder = tempfile::tempdir().unwrap();
            let (target, root) = (folder.path().join("target"), folder.path().join("lake"));
            for link in [UNFINISHED, "raw", "raw/table"] {
                std::fs::create_dir_all(&target).unwrap();
                std::fs::write(target.join("object"), "of the user").unwrap();
                let link = root.join(link);
                std::fs::create_dir_all(link.parent().unwrap()).unwrap();
                symlink(&target, &link).unwrap();
                // A store that is not locked, such as that of a report, leaves the unfinished files as they are.
                let store = FolderStore::new(&root);
                let error = store.put("raw/table/object", Bytes::from_static(b"new")).await.unwrap_err();
                assert_eq!(error.kind(), Kind::BadInput);
                assert!(error.to_string().contains(link.to_str().unwrap()), "{error}");
                assert_eq!(store.delete("raw/table/object").await.is_err(), !link.ends_with(UNFINISHED));
                assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1, "{link:?}");
                assert_eq!(std::fs::read_to_string(target.join("object")).unwrap(), "of the user");
                std::fs::remove_dir_all(&root).unwrap();
            }
        }

        #[tokio::test]
        async fn link_to_a_file_is_read_and_one_to_a_folder_or_to_nothing_is_an_error() {
            let (folder, store) = store();
            let target = folder.path().join("target");
            std::fs::create_dir(&target).unwrap();
            std::fs::write(target.join("object"), "of the user").unwrap();
            std::fs::create_dir(store.path("raw")).unwrap();
            symlink(target.join("object"), store.path("raw/object")).unwrap();
            let entry = Entry { key: "raw/object".to_owned(), size: 11 };
            assert_eq!(store.list("raw/").await.unwrap(), std::slice::from_ref(&entry));
            assert_eq!(store.get("raw/object").await.unwrap().unwrap(), "of the user");
            for (link, leads_to) in [("raw/folder", target.clone()), ("raw/none", folder.path().join("none"))] {
                symlink(leads_to, store.path(link)).unwrap();
                for prefix in ["", "raw/", "raw/folder/", "raw/folder/x"] {
                    let listed = store.list(prefix).await;
                    if link == "raw/none" && prefix.starts_with("raw/folder") {
                        assert_eq!(listed.unwrap(), []);
                        continue;
                    }
                    let error = listed.unwrap_err();
                    assert_eq!(error.kind(), Kind::BadInput);
                    assert!(error.to_string().contains(store.path(link).to_str().unwrap()), "{prefix}: {error}");
                }
                std::fs::remove_file(store.path(link)).unwrap();
            }
            // Editors leave hidden links to nothing.
            symlink("user@host", store.path("raw/.#object")).unwrap();
            assert_eq!(store.list("").await.unwrap(), [entry]);
            assert_eq!(store.list_hidden().await.unwrap()[0].key, "raw/.#object");
        }

        #[tokio::test]
        async fn pipe_in_the_place_of_an_object_is_an_error() {
            let (_folder, store) = store();
            let made = std::process::Command::new("mkfifo").arg(store.path("object")).status().unwrap();
            assert!(made.success());
            let errors = [
                store.get("object").await.err(),
                store.get_suffix("object", 8).await.err(),
                store.get_range("object", 0..8).await.err(),
            ];
            for error in errors {
                assert!(error.is_some_and(|error| error.to_string().contains("not a regular file")));
            }
        }

        #[tokio::test]
        async fn link_in_the_place_of_an_object_is_replaced() {
            let (folder, store) = store();
            let target = folder.path().join("target");
            std::fs::write(&target, "of the user").unwrap();
            symlink(&target, store.path("object")).unwrap();
            store.put("object", Bytes::from_static(b"new")).await.unwrap();
            assert!(!store.path("object").is_symlink());
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "of the user");
        }
    }

    #[tokio::test]
    async fn hidden_files_are_listed_apart() {
        let (_folder, store) = store();
        for key in ["a/b", "a/._b", ".DS_Store", ".cache/x/y", ".unfinished/half"] {
            let path = store.path(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, key).unwrap();
        }
        let keys = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
        assert_eq!(keys(store.list("").await.unwrap()), ["a/b"]);
        assert_eq!(keys(store.list_hidden().await.unwrap()), [".DS_Store", ".cache/x/y", "a/._b"]);
    }

    #[tokio::test]
    async fn opening_locks_the_folder_and_removes_unfinished_files() {
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
