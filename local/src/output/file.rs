//! Files that a command writes for its user.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use defi_shared::error::{Error, Result};
use tempfile::NamedTempFile;

use super::StdoutWriter;

/// The maximum number of symbolic links that are followed from one path, as in Linux.
const MAX_LINKS: usize = 40;

/// A file that a command writes, or standard output. A regular file appears, or is replaced, when it is
/// [committed](OutputFile::commit); a reader never sees a part of it. Anything else (a pipe, a device such as
/// `/dev/null` or `/dev/stdout`) is written to in place.
#[derive(Debug)]
pub struct OutputFile {
    /// The path that the user named. Empty for standard output.
    name: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Stdout(StdoutWriter),
    Special(File),
    /// A temporary file, and the path that it is renamed to.
    Regular(NamedTempFile, PathBuf),
}

/// Where a path leads to, after all symbolic links.
enum Place {
    Stdout,
    /// Not a regular file.
    Special(PathBuf),
    /// A regular file, with its metadata if it exists.
    Regular(PathBuf, Option<Metadata>),
}

impl OutputFile {
    /// Opens standard output.
    #[must_use]
    pub fn stdout() -> Self {
        OutputFile { name: PathBuf::new(), target: Target::Stdout(StdoutWriter::default()) }
    }

    /// Opens a file. A symbolic link is followed: the link stays, and its target is written. A file of the user
    /// keeps its mode.
    ///
    /// # Errors
    /// `BadInput` if the path is a folder, the file can't be created or written to, or another user may have planted a
    /// file, a link or a pipe in its place.
    pub fn open(path: &Path) -> Result<Self> {
        let target = find(path).and_then(open).map_err(|cause| unwritable(path, cause))?;
        Ok(OutputFile { name: path.to_owned(), target })
    }

    /// Returns whether the output is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match &self.target {
            Target::Stdout(_) => io::stdout().is_terminal(),
            Target::Special(file) => file.is_terminal(),
            Target::Regular(..) => false,
        }
    }

    /// Writes the last bytes and completes the output.
    ///
    /// # Errors
    /// As [`OutputFile::commit`].
    pub fn finish_with(mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|cause| unwritable(&self.name, cause))?;
        self.commit()
    }

    /// Completes the output. Without this call a regular file stays as it was.
    ///
    /// # Errors
    /// `BadInput` if the file can't be written.
    pub fn commit(mut self) -> Result<()> {
        let flushed = self.flush();
        let committed = flushed.and_then(|()| match self.target {
            Target::Regular(file, path) => file.persist(path).map(drop).map_err(|error| error.error),
            Target::Stdout(_) | Target::Special(_) => Ok(()),
        });
        committed.map_err(|cause| unwritable(&self.name, cause))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Stdout(out) => out.write(bytes),
            Target::Special(out) => out.write(bytes),
            Target::Regular(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Stdout(out) => out.flush(),
            Target::Special(out) => out.flush(),
            Target::Regular(out, _) => out.flush(),
        }
    }
}

/// Finds where a path leads to. The links to open files (`/dev/stdout`, `/dev/fd/63`) are not followed: what is behind
/// them is written to in place, even if it is a regular file, which the shell may append to.
fn find(path: &Path) -> io::Result<Place> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        reject_planted_folders(&path, &mut 0)?;
        if ["/proc/self/fd/1", "/dev/fd/1"].map(Path::new).contains(&path.as_path()) {
            return Ok(Place::Stdout);
        }
        if path.starts_with("/proc") || path.starts_with("/dev/fd") {
            return Ok(Place::Special(path));
        }
        match fs::symlink_metadata(&path) {
            Ok(metadata) if is_planted(&path, &metadata)? => return Err(planted()),
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().map_or_else(|| target.clone(), |folder| folder.join(&target));
            }
            Ok(metadata) if metadata.is_file() => return Ok(Place::Regular(path, Some(metadata))),
            Ok(metadata) if metadata.is_dir() => return Err(ErrorKind::IsADirectory.into()),
            Ok(_) => return Ok(Place::Special(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Regular(path, None)),
            Err(error) => return Err(error),
        }
    }
    Err(too_many_links())
}

/// Fails if a folder on the way to a file is a link that another user may have planted. `followed` is the number of links
/// so far. A missing folder is found when the file is opened.
fn reject_planted_folders(path: &Path, followed: &mut usize) -> io::Result<()> {
    let folders: Vec<&Path> = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    for folder in folders.into_iter().rev() {
        let Ok(metadata) = fs::symlink_metadata(folder) else { return Ok(()) };
        if !metadata.is_symlink() {
            continue;
        }
        if is_planted(folder, &metadata)? {
            return Err(planted());
        }
        *followed += 1;
        if *followed > MAX_LINKS {
            return Err(too_many_links());
        }
        // The target and the folders on the way to it may be links, too.
        let target = folder_of(folder).join(fs::read_link(folder)?);
        reject_planted_folders(&target.join("file"), followed)?;
    }
    Ok(())
}

fn planted() -> io::Error {
    let message = "another user may have planted what has this name in a folder that everyone may write to";
    io::Error::new(ErrorKind::PermissionDenied, message)
}

fn too_many_links() -> io::Error {
    io::Error::other("too many symbolic links")
}

/// Whether a file, a link, a pipe or a device belongs to neither the user nor the owner of its folder, and everyone may create
/// files in that folder (`/tmp`). This is Linux's rule for links (`fs.protected_symlinks`), which does not apply where
/// links are followed by hand.
#[cfg(unix)]
fn is_planted(path: &Path, metadata: &Metadata) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    let folder = fs::metadata(folder_of(path))?;
    let is_shared = folder.mode() & 0o1002 == 0o1002;
    Ok(is_shared && ![folder.uid(), rustix::process::geteuid().as_raw()].contains(&metadata.uid()))
}

#[cfg(not(unix))]
fn is_planted(_: &Path, _: &Metadata) -> io::Result<bool> {
    Ok(false)
}

/// Returns the permissions of a file that a file in its place keeps: those that the user gave it. Another user may have
/// chosen them so as to change the new file. No file runs with the rights of its owner.
#[cfg(unix)]
fn permissions_to_keep(metadata: &Metadata) -> Option<Permissions> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    is_own.then(|| Permissions::from_mode(metadata.mode() & 0o777))
}

#[cfg(not(unix))]
fn permissions_to_keep(metadata: &Metadata) -> Option<Permissions> {
    Some(metadata.permissions())
}

/// Returns the folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open(place: Place) -> io::Result<Target> {
    match place {
        Place::Stdout => Ok(Target::Stdout(StdoutWriter::default())),
        Place::Special(path) => OpenOptions::new().append(true).open(path).map(Target::Special),
        Place::Regular(path, metadata) => {
            let file = temporary_beside(&path)?;
            if let Some(metadata) = metadata {
                // A file that its user may not write to is not replaced either.
                OpenOptions::new().write(true).open(&path)?;
                if let Some(permissions) = permissions_to_keep(&metadata) {
                    file.as_file().set_permissions(permissions)?;
                }
            }
            Ok(Target::Regular(file, path))
        }
    }
}

/// Creates a temporary file with a unique name in the folder of a file. It is deleted when it is dropped.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".defi-").suffix(".unfinished");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path))
}

/// Returns the error for a file, or for standard output if the path is empty.
fn unwritable(path: &Path, cause: io::Error) -> Error {
    if path.as_os_str().is_empty() {
        return super::unwritable_output(cause);
    }
    Error::bad_input("the file can't be written")
        .with("path", path.display())
        .with_source(cause)
        .with_hint("choose another file")
}

/// Writes a text to a file.
///
/// # Errors
/// As [`OutputFile::open`] and [`OutputFile::commit`].
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    OutputFile::open(path)?.finish_with(text.as_bytes())
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, lchown, symlink};

    use tempfile::tempdir;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn file_appears_when_it_is_committed_and_nothing_else_is_left() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let mut file = OutputFile::open(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"new".to_vec(), vec!["out.csv".to_owned()]));
    }

    #[test]
    fn file_that_is_not_committed_stays_as_it_was() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        // Names that a fixed temporary name would clobber.
        fs::write(folder.path().join("out.csv.unfinished"), "of the user").unwrap();
        let mut file = OutputFile::open(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read(folder.path().join("out.csv.unfinished")).unwrap(), b"of the user");
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn mode_of_a_file_is_kept() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("out.csv");
        for mode in [0o600, 0o640, 0o666, 0o755] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            write_file(&path, "new").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
            assert_eq!(fs::read(&path).unwrap(), b"new");
        }
    }

    #[test]
    fn mode_that_another_user_chose_and_the_setuid_bit_are_not_kept() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let write_over = |mode: u32, owner: Option<u32>| {
            fs::write(&path, "old").unwrap();
            // Only root can give a file to another user. A change of the owner clears the setuid bit.
            let is_of_other = owner.is_some_and(|owner| chown(&path, Some(owner), None).is_ok());
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let written = write_file(&path, "new");
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            fs::remove_file(&path).unwrap();
            (written.is_ok(), mode, is_of_other)
        };
        assert_eq!(write_over(0o6755, None), (true, 0o755, false));
        let (is_written, mode, is_of_other) = write_over(0o4777, Some(1));
        assert_eq!((is_written, mode & 0o4111), (true, if is_of_other { 0 } else { 0o111 }));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        let (is_written, _, is_of_other) = write_over(0o4777, Some(1));
        assert_eq!(is_written, !is_of_other, "planted in a shared folder");
    }

    #[test]
    fn target_of_a_link_is_replaced_and_the_link_stays() {
        let folder = tempdir().unwrap();
        let [target, other] = ["target", "other"].map(|name| folder.path().join(name));
        fs::create_dir(&other).unwrap();
        fs::write(&target, "old").unwrap();
        let (link, outer) = (other.join("link"), folder.path().join("outer"));
        symlink("../target", &link).unwrap();
        symlink("other/link", &outer).unwrap();
        write_file(&outer, "new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!([&link, &outer].iter().all(|path| path.is_symlink()));
        // The target of a link need not exist yet.
        fs::remove_file(&target).unwrap();
        write_file(&outer, "again").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"again");
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(write_file(&folder.path().join("loop"), "x").is_err());
    }

    #[test]
    fn link_and_pipe_of_another_user_in_a_shared_folder_are_refused() {
        let folder = tempdir().unwrap();
        let [target, link, pipe] = ["target", "link", "pipe"].map(|name| folder.path().join(name));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        // Only root can give a file to another user.
        let is_root = [&link, &pipe].iter().all(|path| lchown(path, Some(1), None).is_ok());
        for (mode, is_refused) in [(0o1777, true), (0o755, false)] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            for path in [&link, &pipe] {
                let metadata = fs::symlink_metadata(path).unwrap();
                assert_eq!(is_planted(path, &metadata).unwrap(), is_refused && is_root, "{path:?} {mode:o}");
            }
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(write_file(&link, "new").is_err(), is_root);
        assert_eq!(fs::read(&target).unwrap(), if is_root { b"old" } else { b"new" });
        if is_root {
            assert!(write_file(&pipe, "new").is_err());
            // The owner of the folder may be trusted with what is in it.
            chown(folder.path(), Some(1), None).unwrap();
            write_file(&link, "newest").unwrap();
        }
    }

    #[test]
    fn link_to_a_folder_of_another_user_in_a_shared_folder_is_refused() {
        let folder = tempdir().unwrap();
        let [shared, target, own] = ["shared", "target", "own"].map(|name| folder.path().join(name));
        for created in [&shared, &target] {
            fs::create_dir(created).unwrap();
        }
        let (link, outer, around) = (shared.join("link"), own.join("outer"), shared.join("around"));
        symlink(&target, &link).unwrap();
        fs::create_dir(&own).unwrap();
        // A link of the user to the planted one, and a planted one on the way to another folder.
        symlink("../shared/link", &outer).unwrap();
        symlink("../own", &around).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        // Only root can give a link to another user.
        let is_root = [&link, &around].iter().all(|path| lchown(path, Some(1), None).is_ok());
        for path in [link.join("a.csv"), outer.join("a.csv"), around.join("a.csv"), around.join("../target/a.csv")] {
            assert_eq!(write_file(&path, "new").is_err(), is_root, "{path:?}");
        }
        assert_eq!(names(&target).len(), if is_root { 0 } else { 1 });
        fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
        write_file(&outer.join("b.csv"), "new").unwrap();
        assert!(names(&target).contains(&"b.csv".to_owned()), "nobody else can plant anything there");
        symlink("loop", own.join("loop")).unwrap();
        assert!(write_file(&own.join("loop/a.csv"), "x").is_err());
    }

    #[test]
    fn pipe_and_device_are_written_to_in_place() {
        let folder = tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut text = String::new();
                File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        write_file(&pipe, "through the pipe").unwrap();
        assert_eq!(reader.join().unwrap(), "through the pipe");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let null = folder.path().join("null");
        symlink("/dev/null", &null).unwrap();
        for path in [Path::new("/dev/null"), &null] {
            write_file(path, "nothing").unwrap();
            assert!(fs::metadata(path).unwrap().file_type().is_char_device());
        }
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn open_file_is_appended_to() {
        use std::os::fd::AsRawFd;

        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "before ").unwrap();
        write_file(Path::new(&format!("/dev/fd/{}", file.as_file().as_raw_fd())), "after").unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), b"before after");
    }

    #[test]
    fn folder_and_missing_folder_are_bad_input() {
        let folder = tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("no/such/file")] {
            let error = write_file(&path, "x").unwrap_err();
            assert_eq!(error.kind(), defi_shared::error::Kind::BadInput);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
}
