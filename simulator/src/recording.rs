//! A recording: what the two APIs answered over some days, in memory. Read from a folder, or made up by
//! [`crate::sample`].
//!
//! The rows are kept as they came: recordings are dirty on purpose, and the pipeline must see the dirt. Only what would
//! leave nothing to serve is an error here: a missing file, a line that is no JSON, a row that is no object.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use defi_shared::config::Config;
use defi_shared::domain::Day;
use defi_shared::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// One row of a snapshot. Shared, because most positions are the same for days.
pub type Row = Arc<Value>;

/// The rows of one table by protocol and block, in the order of the file.
pub type Snapshots = BTreeMap<String, BTreeMap<u64, Vec<Row>>>;

/// How far the chain goes on after the first block of the last day: one hour, so that this block is final (64 deep) by
/// any measure, and the last day is far from over.
pub const BLOCKS_AFTER_LAST_DAY: u64 = 300;

/// The time between the blocks after the last recorded one.
pub const SECONDS_PER_BLOCK: i64 = 12;

/// The first block of a UTC day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Block {
    /// The block number.
    #[serde(rename = "block_number")]
    pub number: u64,
    /// Seconds since the epoch.
    pub timestamp: i64,
}

/// What the two APIs have to say about the days from `first_day` to `last_day`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The name, for messages.
    pub name: String,
    /// The protocols, one per deployment, such as `aave-v2-eth`.
    pub protocols: Vec<String>,
    /// The first day, `YYYY-MM-DD`.
    pub first_day: String,
    /// The last day: its first block is recorded, and is the newest state there is.
    pub last_day: String,
    /// The first block of each day, ascending.
    pub blocks: Vec<Block>,
    /// Rows of `ethereum.lending_events`, in the order of the file.
    pub events: Vec<Map<String, Value>>,
    /// Markets by protocol and block.
    pub markets: Snapshots,
    /// Positions by protocol and block.
    pub positions: Snapshots,
}

#[derive(Deserialize)]
struct Manifest {
    name: String,
    protocols: Vec<String>,
    first_day: String,
    last_day: String,
}

impl Recording {
    /// Reads the folder of a recording.
    ///
    /// # Errors
    /// `BadInput` for a missing file, `CorruptData` for a broken one; both name the file, and the line where there is one.
    pub fn load(dir: &Path) -> Result<Recording> {
        let manifest: Manifest = read_manifest(&dir.join("manifest.json"))?;
        let blocks = read_blocks(&dir.join("blocks.jsonl"))?;
        let events = read_events(&dir.join("lending_events.jsonl"))?;
        let mut markets = Snapshots::new();
        let mut positions = Snapshots::new();
        for protocol in &manifest.protocols {
            let path = dir.join(format!("markets.{protocol}.jsonl"));
            markets.insert(protocol.clone(), read_snapshots(&path, "market", &blocks)?);
            let path = dir.join(format!("positions.{protocol}.jsonl"));
            positions.insert(protocol.clone(), read_snapshots(&path, "position", &blocks)?);
        }
        Ok(Recording {
            name: manifest.name,
            protocols: manifest.protocols,
            first_day: manifest.first_day,
            last_day: manifest.last_day,
            blocks,
            events,
            markets,
            positions,
        })
    }

    /// Restricts a configuration to the protocols of the recording, which start on its first day.
    ///
    /// # Errors
    /// `BadInput` for a protocol that the configuration lacks.
    pub fn restrict(&self, config: &mut Config) -> Result<()> {
        let first: Day = self.first_day.parse()?;
        for protocol in &self.protocols {
            config.protocol(protocol)?;
        }
        config.protocols.retain(|protocol| self.protocols.contains(&protocol.name));
        config.protocols.iter_mut().for_each(|protocol| protocol.first_day = first);
        Ok(())
    }
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let manifest: Manifest = serde_json::from_reader(open(path)?)
        .map_err(|error| corrupt(path, error.line(), "the manifest is not readable").because(error))?;
    if manifest.protocols.is_empty() {
        return Err(corrupt(path, 1, "the manifest names no protocol"));
    }
    let day = |text: &str| text.parse::<jiff::civil::Date>();
    match (day(&manifest.first_day), day(&manifest.last_day)) {
        (Ok(first), Ok(last)) if first <= last => Ok(manifest),
        _ => Err(corrupt(path, 1, "first_day and last_day must be two days in order, as YYYY-MM-DD")),
    }
}

fn read_blocks(path: &Path) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    for_each_line(path, |line, text| {
        let block: Block = serde_json::from_str(text)
            .map_err(|error| corrupt(path, line, "expected {\"block_number\", \"timestamp\"}").because(error))?;
        if blocks.last().is_some_and(|last| last.number >= block.number || last.timestamp >= block.timestamp) {
            return Err(corrupt(path, line, "blocks must ascend in number and time"));
        }
        blocks.push(block);
        Ok(())
    })?;
    if blocks.is_empty() { Err(corrupt(path, 1, "there must be at least one block")) } else { Ok(blocks) }
}

fn read_events(path: &Path) -> Result<Vec<Map<String, Value>>> {
    let mut events = Vec::new();
    for_each_line(path, |line, text| {
        let event = serde_json::from_str(text)
            .map_err(|error| corrupt(path, line, "an event must be a JSON object").because(error))?;
        events.push(event);
        Ok(())
    })?;
    Ok(events)
}

/// Reads rows of `{"block_number", field: {…}}`. A row at a block that is not recorded could never be asked for, so it is
/// a mistake of the recording.
fn read_snapshots(path: &Path, field: &'static str, blocks: &[Block]) -> Result<BTreeMap<u64, Vec<Row>>> {
    let mut snapshots: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
    for_each_line(path, |line, text| {
        let what = || corrupt(path, line, format!("expected {{\"block_number\", \"{field}\": {{…}}}}"));
        let mut envelope: Map<String, Value> = serde_json::from_str(text).map_err(|error| what().because(error))?;
        let block = envelope.get("block_number").and_then(Value::as_u64).ok_or_else(what)?;
        let row = envelope.remove(field).filter(Value::is_object).ok_or_else(what)?;
        if blocks.binary_search_by_key(&block, |known| known.number).is_err() {
            return Err(corrupt(path, line, format!("block {block} is not in blocks.jsonl")));
        }
        snapshots.entry(block).or_default().push(Arc::new(row));
        Ok(())
    })?;
    Ok(snapshots)
}

fn for_each_line(path: &Path, mut take: impl FnMut(usize, &str) -> Result<()>) -> Result<()> {
    for (index, text) in open(path)?.lines().enumerate() {
        let text = text.map_err(|error| corrupt(path, index + 1, "the line is not readable").because(error))?;
        if !text.trim().is_empty() {
            take(index + 1, &text)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|error| {
        let message = match error.kind() {
            ErrorKind::NotFound => "a file of the recording is missing",
            _ => "a file of the recording can't be opened",
        };
        Error::bad_input(message)
            .with("file", path.display())
            .because(error)
            .next("name a folder that holds a complete recording")
    })?;
    Ok(BufReader::new(file))
}

fn corrupt(path: &Path, line: usize, message: impl Into<String>) -> Error {
    Error::corrupt(message)
        .with("file", PathBuf::from(path).display())
        .with("line", line)
        .next("repair the recording, or use another")
}

#[cfg(test)]
mod tests {
    use super::*;
    use defi_shared::error::Kind;
    use std::fs;

    /// A folder with one protocol, one block and one row each.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "manifest.json",
            r#"{"name":"tiny","protocols":["aave-v2-eth"],"first_day":"2023-01-01","last_day":"2023-01-02","provenance":"x"}"#,
        );
        write("blocks.jsonl", "{\"block_number\":10,\"timestamp\":100}\n{\"block_number\":20,\"timestamp\":200}\n");
        write("lending_events.jsonl", "{\"category\":\"borrow\",\"quantity\":null}\n");
        write("markets.aave-v2-eth.jsonl", "{\"block_number\":10,\"market\":{\"id\":\"0xaa\"}}\n");
        write(
            "positions.aave-v2-eth.jsonl",
            "{\"block_number\":20,\"position\":{\"id\":7,\"balance\":\"-1\"}}\n\n{\"block_number\":20,\"position\":{}}\n",
        );
        dir
    }

    fn refusal(file: &str, text: &str) -> Error {
        let dir = folder();
        fs::write(dir.path().join(file), text).unwrap();
        Recording::load(dir.path()).unwrap_err()
    }

    #[test]
    fn a_recording_is_read_as_it_is_dirt_and_all() {
        let recording = Recording::load(folder().path()).unwrap();
        assert_eq!(recording.name, "tiny");
        assert_eq!(recording.protocols, ["aave-v2-eth"]);
        assert_eq!(recording.blocks[1], Block { number: 20, timestamp: 200 });
        assert_eq!(recording.events[0]["quantity"], Value::Null);
        assert_eq!(recording.markets["aave-v2-eth"][&10].len(), 1);
        let positions = &recording.positions["aave-v2-eth"][&20];
        assert_eq!(positions.len(), 2);
        assert_eq!(*positions[0], serde_json::json!({"id": 7, "balance": "-1"}));
    }

    #[test]
    fn each_missing_file_is_named() {
        for file in [
            "manifest.json",
            "blocks.jsonl",
            "lending_events.jsonl",
            "markets.aave-v2-eth.jsonl",
            "positions.aave-v2-eth.jsonl",
        ] {
            let dir = folder();
            fs::remove_file(dir.path().join(file)).unwrap();
            let error = Recording::load(dir.path()).unwrap_err();
            assert_eq!(error.kind(), Kind::BadInput, "{file}");
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        for (file, text, line) in [
            ("manifest.json", "{\n\"name\": 5", 2),
            ("blocks.jsonl", "{\"block_number\":1,\"timestamp\":1}\n{\"block_number\":2}", 2),
            ("lending_events.jsonl", "{}\n[1]\n", 2),
            ("markets.aave-v2-eth.jsonl", "{\"block_number\":10,\"market\":[]}", 1),
            ("positions.aave-v2-eth.jsonl", "{\"block_number\":10,\"position\":{}}\n{\"block_number\":10", 2),
        ] {
            let error = refusal(file, text);
            assert_eq!(error.kind(), Kind::CorruptData, "{file}");
            assert!(error.to_string().contains(file), "{error}");
            assert!(error.to_string().contains(&format!("line={line}")), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_as_a_whole_is_refused() {
        let descending = "{\"block_number\":20,\"timestamp\":100}\n{\"block_number\":10,\"timestamp\":200}";
        assert!(refusal("blocks.jsonl", descending).to_string().contains("must ascend"));
        assert!(refusal("blocks.jsonl", "").to_string().contains("at least one block"));
        let elsewhere = "{\"block_number\":11,\"market\":{}}";
        assert!(refusal("markets.aave-v2-eth.jsonl", elsewhere).to_string().contains("block 11"));
        let manifest = r#"{"name":"n","protocols":["a"],"first_day":"2023-01-02","last_day":"2023-01-01"}"#;
        assert!(refusal("manifest.json", manifest).to_string().contains("in order"));
        let unheard_of = r#"{"name":"n","protocols":["b"],"first_day":"2023-01-01","last_day":"2023-01-01"}"#;
        assert!(refusal("manifest.json", unheard_of).to_string().contains("markets.b.jsonl"));
    }
}
