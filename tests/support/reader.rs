//! A reader that continuously reads a lake while a run writes it, like a concurrent query.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use defi_shared::lake::parquet;
use serde_json::Value;

/// Repeatedly reads a lake's objects on a background thread until it is stopped.
pub struct BackgroundReader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Observations>,
}

/// What a reader observed.
#[derive(Debug, Default)]
pub struct Observations {
    /// Number of objects read. Each version of an object is read once.
    pub objects: usize,
    /// Unreadable objects and incomplete published sets.
    pub problems: Vec<String>,
}

/// Identifies a version of a file by its modification time and size. A file is never changed in place.
type Version = (SystemTime, u64);

impl BackgroundReader {
    /// Starts to read a lake. The folder does not have to exist yet.
    pub fn start(lake: &Path) -> BackgroundReader {
        let stop = Arc::new(AtomicBool::new(false));
        let (root, stopped) = (lake.to_owned(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (mut observations, mut versions) = (Observations::default(), HashMap::new());
            while !stopped.load(Ordering::Relaxed) {
                scan(&root, &mut versions, &mut observations);
                // Leave CPU time to the observed run.
                thread::sleep(Duration::from_millis(10));
            }
            scan(&root, &mut versions, &mut observations);
            observations
        });
        BackgroundReader { stop, thread }
    }

    /// Stops after one more scan, and returns what the reader observed.
    pub fn stop(self) -> Observations {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader does not panic")
    }
}

/// Reads the new objects, and checks that the published sets are complete.
fn scan(root: &Path, versions: &mut HashMap<PathBuf, Version>, observations: &mut Observations) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Files whose names start with a dot are not objects.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let version = (metadata.modified().expect("a modification time"), metadata.len());
            if versions.insert(entry.path(), version) != Some(version) {
                read(&entry.path(), observations);
            }
        }
    }
    observations.problems.extend(missing_published_shards(root));
}

fn read(path: &Path, observations: &mut Observations) {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    observations.objects += 1;
    let problem = match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => parquet::file_metadata(&bytes.into()).err().map(|error| error.to_string()),
        Some("json") => serde_json::from_slice::<Value>(&bytes).err().map(|error| error.to_string()),
        Some("html") => (!bytes.ends_with(b"</html>\n")).then(|| "a truncated page".to_owned()),
        // The record of a digest.
        Some(digest) if digest.len() == 64 => (!bytes.is_empty()).then(|| "a record with content".to_owned()),
        other => Some(format!("an unknown type of object: {other:?}")),
    };
    observations.problems.extend(problem.map(|problem| format!("{}: {problem}", path.display())));
}

/// Returns the shards that are missing from published sets: from the one that `defi_features` points to, and from those
/// of the history.
pub fn missing_published_shards(root: &Path) -> Vec<String> {
    let database = root.join("catalog/db_analytics_dev");
    let json = |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let pointer = json(&database.join("defi_features.json"));
    let history = fs::read_dir(database.join("defi_features_history")).into_iter().flatten().flatten();
    let entries = pointer.into_iter().chain(history.filter_map(|entry| json(&entry.path())));
    let folders = entries.filter_map(|entry| entry["location"].as_str().map(|folder| root.join(folder)));
    let shards = |folder: PathBuf| (0..SHARDS).map(move |shard| folder.join(format!("{shard}.parquet")));
    folders
        .flat_map(shards)
        .filter(|shard| !shard.exists())
        .map(|shard| format!("{} is missing", shard.display()))
        .collect()
}

/// The number of shards in the built-in configuration.
const SHARDS: u32 = 4;
