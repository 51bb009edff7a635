//! A reader that looks at a lake all the time, as somebody's query would.

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

/// Reads a lake's objects over and over on a thread of its own, until it is asked what it saw.
pub struct Reader {
    stop: Arc<AtomicBool>,
    reading: JoinHandle<Seen>,
}

/// What a reader saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Objects that it read, each version of one once.
    pub objects: usize,
    /// What was not as it must be.
    pub wrong: Vec<String>,
}

/// What tells one version of a file from the next: a file is never changed in place.
type Version = (SystemTime, u64);

impl Reader {
    /// Begins to read; the folder need not be there yet.
    pub fn of(lake: &Path) -> Reader {
        let stop = Arc::new(AtomicBool::new(false));
        let (root, asked) = (lake.to_owned(), Arc::clone(&stop));
        let reading = thread::spawn(move || {
            let (mut seen, mut known) = (Seen::default(), HashMap::new());
            while !asked.load(Ordering::Relaxed) {
                look(&root, &mut known, &mut seen);
                // The run that is watched needs the processors too.
                thread::sleep(Duration::from_millis(1));
            }
            look(&root, &mut known, &mut seen);
            seen
        });
        Reader { stop, reading }
    }

    /// Stops after one more look.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.join().expect("the reader")
    }
}

/// Reads what is new, and holds the published set to be whole.
fn look(root: &Path, known: &mut HashMap<PathBuf, Version>, seen: &mut Seen) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // What begins with a dot is no object.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let version = (metadata.modified().expect("a time"), metadata.len());
            if known.insert(entry.path(), version) != Some(version) {
                read(&entry.path(), seen);
            }
        }
    }
    seen.wrong.extend(published_without(root));
}

fn read(path: &Path, seen: &mut Seen) {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(gone) if gone.kind() == ErrorKind::NotFound => return,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    seen.objects += 1;
    let wrong = match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => parquet::facts(&bytes.into()).err().map(|error| error.to_string()),
        Some("json") => serde_json::from_slice::<Value>(&bytes).err().map(|error| error.to_string()),
        Some("html") => (!bytes.ends_with(b"</html>\n")).then(|| "a page without its end".to_owned()),
        other => Some(format!("an object of another kind: {other:?}")),
    };
    seen.wrong.extend(wrong.map(|wrong| format!("{}: {wrong}", path.display())));
}

/// The shards that are missing from sets which the catalog shows: the one that `defi_features` points at, and those of the
/// history.
pub fn published_without(root: &Path) -> Vec<String> {
    let database = root.join("catalog/db_analytics_dev");
    let json = |path: &Path| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let pointer = json(&database.join("defi_features.json"));
    let history = fs::read_dir(database.join("defi_features_history")).into_iter().flatten().flatten();
    let entries = pointer.into_iter().chain(history.filter_map(|entry| json(&entry.path())));
    let folders = entries.filter_map(|entry| entry["location"].as_str().map(|folder| root.join(folder)));
    let shards = |folder: PathBuf| (0..SHARDS).map(move |shard| folder.join(format!("{shard}.parquet")));
    folders.flat_map(shards).filter(|shard| !shard.exists()).map(|shard| format!("no {}", shard.display())).collect()
}

/// Of the built-in configuration.
const SHARDS: u32 = 4;
